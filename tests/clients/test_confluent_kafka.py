"""confluent-kafka, the Python client over librdkafka."""

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from group_member import Member
from waiting import eventually


@pytest.fixture
def admin(kafka):
    return AdminClient({"bootstrap.servers": kafka})


def create(admin, topic, partitions=1, **config):
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(10)
    return topic


def produce(kafka, topic, records, **config):
    """Sends (key, value) pairs or dictionaries of `produce` and waits for every acknowledgement."""
    failures = []
    producer = Producer({"bootstrap.servers": kafka, **config})
    for record in records:
        record = record if isinstance(record, dict) else {"key": record[0], "value": record[1]}
        producer.produce(topic, on_delivery=lambda error, _: error and failures.append(error), **record)
    assert producer.flush(20) == 0
    assert not failures


def read(kafka, topic, count, partitions=1, **config):
    """Reads `count` messages from the start of some partitions, without a group."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False, **config})
    try:
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in range(partitions)])
        return collect(consumer, count)
    finally:
        consumer.close()


def collect(consumer, count):
    """Exactly `count` messages, not one more: what is read but not asked for stays uncommitted."""
    messages = []
    eventually(
        lambda: messages.extend(consumer.consume(count - len(messages), 0.2)) or len(messages) == count, what="reading"
    )
    assert not [message.error() for message in messages if message.error()]
    return messages


def drain(kafka, topic, group, count):
    """Reads `count` messages as the one member of a group, and commits."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        messages = collect(consumer, count)
        consumer.commit(asynchronous=False)
        return [message.value().decode() for message in messages]
    finally:
        consumer.close()


def test_topics_are_created_listed_described_grown_and_deleted(admin, name):
    topic = create(admin, name(), partitions=3, **{"retention.ms": "60000", "cleanup.policy": "compact,delete"})
    assert set(admin.list_topics(timeout=10).topics[topic].partitions) == {0, 1, 2}
    resource = ConfigResource("topic", topic)
    config = admin.describe_configs([resource])[resource].result(10)
    assert config["retention.ms"].value == "60000"
    assert config["cleanup.policy"].value == "compact,delete"
    assert config["segment.bytes"].is_default
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(10)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5
    admin.delete_topics([topic])[topic].result(10)
    assert topic not in admin.list_topics(timeout=10).topics


def test_wrong_requests_fail_with_kafkas_errors(admin, name):
    topic = create(admin, name())
    for request, code in [
        (NewTopic(topic, 1, 1), KafkaError.TOPIC_ALREADY_EXISTS),
        (NewTopic("not a name", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic(name(), 1, 1, config={"no.such.key": "1"}), KafkaError.INVALID_CONFIG),
    ]:
        with pytest.raises(KafkaException) as raised:
            admin.create_topics([request])[request.topic].result(10)
        assert raised.value.args[0].code() == code


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_survive_every_compression(kafka, admin, name, codec):
    topic = create(admin, name())
    headers = [("trace", b"\x00\xff"), ("trace", b"again"), ("none", None)]
    sent = [
        {"key": f"k{n}", "value": "v" * n, "headers": headers, "timestamp": 1_700_000_000_000 + n} for n in range(300)
    ]
    produce(kafka, topic, [*sent, {"key": "gone", "value": None}], **{"compression.type": codec})
    messages = read(kafka, topic, 301)
    assert [message.offset() for message in messages] == list(range(301))
    for message, record in zip(messages, sent):
        assert message.key().decode() == record["key"]
        assert (message.value() or b"").decode() == record["value"]
        assert message.headers() == headers
        assert message.timestamp() == (1, record["timestamp"])
    assert messages[-1].value() is None


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_produces_with_any_acks(kafka, admin, name, acks):
    topic = create(admin, name())
    produce(kafka, topic, [("k", str(n)) for n in range(50)], acks=acks)
    assert [message.value().decode() for message in read(kafka, topic, 50)] == [str(n) for n in range(50)]


def test_idempotent_producer_keeps_order_in_each_partition(kafka, admin, name):
    topic = create(admin, name(), partitions=4)
    records = [(f"key{n % 16}", str(n)) for n in range(5000)]
    produce(kafka, topic, records, **{"enable.idempotence": True, "max.in.flight.requests.per.connection": 5})
    by_key = {}
    for message in read(kafka, topic, 5000, partitions=4):
        by_key.setdefault(message.key(), []).append(int(message.value()))
    assert len(by_key) == 16
    assert all(values == sorted(values) and len(set(values)) == len(values) for values in by_key.values())


def test_offsets_are_found_by_time_and_at_the_ends(kafka, admin, name):
    topic = create(admin, name())
    produce(kafka, topic, [{"value": str(n), "timestamp": 1000 * n} for n in range(1, 6)])
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "unused"})
    try:
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 5)
        (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 2500)], timeout=10)
        assert found.offset == 2
    finally:
        consumer.close()


def test_records_are_deleted_up_to_an_offset(kafka, admin, name):
    topic = create(admin, name())
    produce(kafka, topic, [("k", str(n)) for n in range(10)])
    target = TopicPartition(topic, 0, 7)
    assert admin.delete_records([target])[target].result(10).low_watermark == 7
    assert [message.offset() for message in read(kafka, topic, 3)] == [7, 8, 9]


def test_group_resumes_where_it_stopped(kafka, admin, name):
    topic, group = create(admin, name()), name("group")
    produce(kafka, topic, [("k", str(n)) for n in range(10)])
    assert drain(kafka, topic, group, 4) == ["0", "1", "2", "3"]
    assert drain(kafka, topic, group, 6) == [str(n) for n in range(4, 10)]
    (described,) = (future.result(10) for future in admin.describe_consumer_groups([group]).values())
    assert (described.state.name, described.members) == ("EMPTY", [])
    admin.delete_consumer_groups([group])[group].result(10)
    assert group not in [each.group_id for each in admin.list_consumer_groups().result(10).valid]


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_group_shares_partitions_and_survives_a_killed_member(kafka, admin, name, strategy):
    topic, group = create(admin, name(), partitions=3), name("group")
    with Member(kafka, group, topic, strategy) as first:
        eventually(lambda: first.partitions == [0, 1, 2], what="one member with all partitions")
        with Member(kafka, group, topic, strategy) as second:

            def shared():
                return first.partitions and second.partitions and sorted(first.partitions + second.partitions)

            eventually(lambda: shared() == [0, 1, 2], what="two members that share")
            produce(kafka, topic, [(f"k{n}", f"a{n}") for n in range(60)])
            eventually(lambda: len(first.values + second.values) == 60, what="60 messages at both members")
            assert first.values and second.values
            second.kill()
            eventually(lambda: first.partitions == [0, 1, 2], what="the survivor with all partitions")
            produce(kafka, topic, [(f"k{n}", f"b{n}") for n in range(60)])
            eventually(lambda: len(first.values + second.values) == 120, what="120 messages in all")
            expected = {f"{wave}{n}" for wave in "ab" for n in range(60)}
            assert set(first.values + second.values) == expected


def test_more_members_than_partitions_leaves_some_idle(kafka, admin, name):
    topic, group = create(admin, name(), partitions=2), name("group")
    with Member(kafka, group, topic) as a, Member(kafka, group, topic) as b, Member(kafka, group, topic) as c:
        produce(kafka, topic, [(f"k{n}", str(n)) for n in range(20)])
        members = [a, b, c]
        eventually(
            lambda: sorted(each.partitions for each in members) == [[], [0], [1]]
            and sum(len(each.values) for each in members) == 20,
            what="two members at work and one idle",
        )


def test_acknowledged_records_and_offsets_survive_kill_9(own_server, name):
    server, topic, group = own_server, name(), name("group")
    create(AdminClient({"bootstrap.servers": server.kafka}), topic, partitions=2)
    produce(server.kafka, topic, [(f"k{n}", str(n)) for n in range(1000)], acks="all", **{"compression.type": "lz4"})
    drain(server.kafka, topic, group, 400)
    server.kill()
    server.start()
    assert server.wait_until_ready()
    rest = drain(server.kafka, topic, group, 600)
    assert len(read(server.kafka, topic, 1000, partitions=2)) == 1000
    assert len(set(rest)) == 600
