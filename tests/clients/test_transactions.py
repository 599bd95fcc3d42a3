"""Transactions, through confluent-kafka."""

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from api_versions import offers
from waiting import eventually

END_TXN = 26


@pytest.fixture(autouse=True)
def _transactions(kafka):
    if not offers(kafka, END_TXN):
        pytest.skip("this broker does not offer transactions yet")


@pytest.fixture
def topic(kafka, name):
    topic = name()
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    return topic


def transactional(kafka, identity):
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": identity})
    producer.init_transactions(15)
    return producer


def values(kafka, topic, isolation):
    """What a reader sees up to the end of the log."""
    config = {"bootstrap.servers": kafka, "group.id": "unused", "enable.partition.eof": True}
    consumer = Consumer({**config, "isolation.level": isolation, "enable.auto.commit": False})
    seen = []

    def ended():
        message = consumer.poll(0.5)
        if message and not message.error():
            seen.append(message.value().decode())
        return message and message.error()

    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        eventually(ended, what="the end of the partition")
        return seen
    finally:
        consumer.close()


def test_readers_see_committed_transactions_only(kafka, topic, name):
    producer = transactional(kafka, name("transaction"))
    for value, end in [("kept", producer.commit_transaction), ("dropped", producer.abort_transaction)]:
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(10)
        end(10)
    producer.begin_transaction()
    producer.produce(topic, "open")
    producer.flush(10)
    assert values(kafka, topic, "read_committed") == ["kept"]
    assert values(kafka, topic, "read_uncommitted") == ["kept", "dropped", "open"]
    producer.commit_transaction(10)
    assert values(kafka, topic, "read_committed") == ["kept", "open"]


def test_second_producer_of_one_id_fences_the_first(kafka, topic, name):
    identity = name("transaction")
    old = transactional(kafka, identity)
    old.begin_transaction()
    old.produce(topic, "from the old one")
    old.flush(10)
    new = transactional(kafka, identity)
    new.begin_transaction()
    new.produce(topic, "from the new one")
    new.commit_transaction(10)
    with pytest.raises(KafkaException):
        old.commit_transaction(10)
    assert values(kafka, topic, "read_committed") == ["from the new one"]


def test_offsets_commit_with_the_transaction(kafka, topic, name):
    group = name("group")
    producer = transactional(kafka, name("transaction"))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    try:
        for offset, end in [(5, producer.commit_transaction), (9, producer.abort_transaction)]:
            producer.begin_transaction()
            producer.produce(topic, "x")
            metadata = consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction([TopicPartition(topic, 0, offset)], metadata, 10)
            end(10)
        (committed,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
        assert committed.offset == 5
    finally:
        consumer.close()


def test_ended_transactions_survive_kill_9_and_an_open_one_goes_on(own_server, name):
    server, topic, group = own_server, name(), name("group")
    admin = AdminClient({"bootstrap.servers": server.kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = transactional(server.kafka, name("transaction"))
    consumer = Consumer({"bootstrap.servers": server.kafka, "group.id": group})
    try:
        metadata = consumer.consumer_group_metadata()
        for value, offset, end in [
            ("kept", 1, producer.commit_transaction),
            ("dropped", 2, producer.abort_transaction),
            ("open", 3, None),
        ]:
            producer.begin_transaction()
            producer.produce(topic, value)
            producer.send_offsets_to_transaction([TopicPartition(topic, 0, offset)], metadata, 10)
            producer.flush(10)
            if end:
                end(10)
        server.kill()
        server.start()
        assert server.wait_until_ready()
        assert values(server.kafka, topic, "read_committed") == ["kept"]
        producer.commit_transaction(20)
        assert values(server.kafka, topic, "read_committed") == ["kept", "open"]
        (committed,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
        assert committed.offset == 3
    finally:
        consumer.close()
