"""kafka-python, a client written in Python alone."""

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from waiting import eventually


@pytest.fixture
def admin(kafka):
    client = KafkaAdminClient(bootstrap_servers=kafka)
    yield client
    client.close()


@pytest.fixture
def topic(admin, name):
    topic = name()
    admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    return topic


def produce(kafka, topic, records, **config):
    """Sends keyword arguments of `send` and waits for every acknowledgement."""
    producer = KafkaProducer(bootstrap_servers=kafka, **config)
    try:
        return [future.get(20) for future in [producer.send(topic, **record) for record in records]]
    finally:
        producer.close()


def take(consumer, count):
    """Reads at least `count` messages."""
    records = []

    def enough():
        records.extend(record for batch in consumer.poll(200).values() for record in batch)
        return len(records) >= count

    eventually(enough, what=f"{count} messages")
    return records


def test_topics_are_listed_and_described(admin, topic):
    assert topic in admin.list_topics()
    (described,) = admin.describe_topics([topic])
    assert len(described["partitions"]) == 2
    admin.delete_topics([topic])
    assert topic not in admin.list_topics()


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "zstd"])
def test_keys_headers_and_timestamps_survive(kafka, topic, codec):
    if codec in ("lz4", "zstd"):
        pytest.importorskip({"lz4": "lz4.frame", "zstd": "zstandard"}[codec])
    headers = [("trace", b"\x00\x01"), ("trace", b"again")]
    sent = [
        {"key": b"k%d" % n, "value": b"v" * n, "headers": headers, "timestamp_ms": 1_700_000_000_000 + n, "partition": 1}
        for n in range(1, 100)
    ]
    produce(kafka, topic, sent, compression_type=codec)
    consumer = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 1)])
        for record, expected in zip(take(consumer, 99), sent, strict=True):
            assert (record.key, record.value) == (expected["key"], expected["value"])
            assert (record.headers, record.timestamp) == (headers, expected["timestamp_ms"])
    finally:
        consumer.close()


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_produces_with_any_acks(kafka, topic, acks, idempotent):
    if idempotent and acks != "all":
        pytest.skip("an idempotent producer needs acks=all")
    produce(kafka, topic, [{"value": b"x"}] * 20, acks=acks, enable_idempotence=idempotent)
    consumer = KafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest", group_id=None)
    try:
        assert len(take(consumer, 20)) == 20
    finally:
        consumer.close()


def test_group_shares_partitions_and_resumes(kafka, admin, topic, name):
    group = name("group")
    # 30 s: kafka-python heartbeats from a thread, which a loaded machine may starve.
    config = {"bootstrap_servers": kafka, "group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    first, second = (KafkaConsumer(topic, session_timeout_ms=30000, **config) for _ in range(2))
    try:

        def shared():
            first.poll(50)
            second.poll(50)
            return sorted(map(len, (first.assignment(), second.assignment()))) == [1, 1]

        eventually(shared, what="a partition each")
        second.close()
        eventually(lambda: first.poll(50) or len(first.assignment()) == 2, what="both partitions at the one left")
        produce(kafka, topic, [{"value": b"%d" % n} for n in range(10)])
        assert {record.value for record in take(first, 10)} == {b"%d" % n for n in range(10)}
        first.commit()
    finally:
        first.close()
    offsets = admin.list_group_offsets({group: None})[group]
    assert sum(each.offset for each in offsets.values()) == 10
    produce(kafka, topic, [{"value": b"later"}])
    again = KafkaConsumer(topic, **config)
    try:
        assert [record.value for record in take(again, 1)] == [b"later"]
    finally:
        again.close()
