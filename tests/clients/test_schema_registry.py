"""confluent-kafka's schema registry client and serializers against our registry."""

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from waiting import eventually

IRIS = """{"type": "record", "name": "iris", "fields": [
    {"name": "id", "type": "int"}, {"name": "sepal_length", "type": ["null", "double"], "default": null}]}"""
WITH_DEFAULT = IRIS.replace("]}", ', {"name": "target", "type": "int", "default": 0}]}')
WITHOUT_DEFAULT = IRIS.replace("]}", ', {"name": "target", "type": "int"}]}')


@pytest.fixture
def registry(server):
    return SchemaRegistryClient({"url": f"http://{server.registry}"})


def test_avro_goes_through_broker_and_registry(kafka, registry, name):
    topic = name()
    context = SerializationContext(topic, MessageField.VALUE)
    serialize = AvroSerializer(registry, IRIS)
    rows = [{"id": n, "sepal_length": None if n % 3 == 0 else n / 10} for n in range(100)]
    producer = Producer({"bootstrap.servers": kafka})
    for row in rows:
        producer.produce(topic, serialize(row, context))
    assert producer.flush(20) == 0

    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False})
    deserialize = AvroDeserializer(registry)
    seen = []
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        eventually(lambda: seen.extend(consumer.consume(100, 0.2)) or len(seen) == 100, what="100 messages")
    finally:
        consumer.close()
    assert [deserialize(message.value(), context) for message in seen] == rows
    assert registry.get_latest_version(f"{topic}-value").version == 1


def test_versions_and_ids_follow_confluents_rules(registry, name):
    subject, other = name("subject"), name("subject")
    first = registry.register_schema(subject, Schema(IRIS, "AVRO"))
    assert registry.register_schema(subject, Schema(IRIS, "AVRO")) == first
    assert registry.register_schema(other, Schema(IRIS, "AVRO")) == first
    second = registry.register_schema(subject, Schema(WITH_DEFAULT, "AVRO"))
    assert second != first
    assert registry.get_versions(subject) == [1, 2]
    assert registry.lookup_schema(subject, Schema(IRIS, "AVRO")).version == 1
    assert {subject, other} <= set(registry.get_subjects())
    assert registry.delete_subject(subject) == [1, 2]
    assert subject not in registry.get_subjects()


def test_incompatible_schema_is_refused(registry, name):
    subject = name("subject")
    registry.register_schema(subject, Schema(IRIS, "AVRO"))
    assert not registry.test_compatibility(subject, Schema(WITHOUT_DEFAULT, "AVRO"))
    with pytest.raises(SchemaRegistryError) as refused:
        registry.register_schema(subject, Schema(WITHOUT_DEFAULT, "AVRO"))
    assert refused.value.http_status_code == 409
    registry.set_compatibility(subject_name=subject, level="NONE")
    assert registry.get_compatibility(subject) == "NONE"
    registry.register_schema(subject, Schema(WITHOUT_DEFAULT, "AVRO"))


def test_absent_subject_is_error_40401(registry, name):
    with pytest.raises(SchemaRegistryError) as absent:
        registry.get_latest_version(name("subject"))
    assert (absent.value.http_status_code, absent.value.error_code) == (404, 40401)


def test_schemas_survive_kill_9(own_server, name):
    registry = SchemaRegistryClient({"url": f"http://{own_server.registry}"})
    subject = name("subject")
    identity = registry.register_schema(subject, Schema(IRIS, "AVRO"))
    own_server.kill()
    own_server.start()
    assert own_server.wait_until_ready()
    again = SchemaRegistryClient({"url": f"http://{own_server.registry}"})
    assert again.get_latest_version(subject).schema_id == identity
    assert again.register_schema(subject, Schema(WITH_DEFAULT, "AVRO")) == identity + 1
