"""kcat (librdkafka, the Debian package)."""

import pytest

from tools import needs, run

pytestmark = needs("kcat")
FORMAT = "%k=%s|%h|%p\n"


def produce(kafka, topic, lines, *options):
    run(["kcat", "-b", kafka, "-P", "-t", topic, "-K", ":", *options], stdin=lines)


def consume(kafka, topic, *options):
    answer = run(["kcat", "-b", kafka, "-C", "-t", topic, "-e", "-q", "-o", "beginning", "-f", FORMAT, *options])
    return sorted(answer.stdout.splitlines())


def test_lists_the_broker_and_a_topic(kafka, name):
    topic = name()
    produce(kafka, topic, "k:v\n")
    listing = run(["kcat", "-b", kafka, "-L", "-t", topic]).stdout
    assert f"broker 1 at {kafka}" in listing
    assert f'topic "{topic}" with 1 partitions' in listing


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_and_headers_survive_every_compression(kafka, name, codec):
    topic = name()
    lines = "".join(f"key{n}:{'value ' * 50}{n}\n" for n in range(200))
    produce(kafka, topic, lines, "-z", codec, "-H", "source=kcat", "-H", "empty=")
    expected = sorted(f"key{n}={'value ' * 50}{n}|source=kcat,empty=|0" for n in range(200))
    assert consume(kafka, topic) == expected


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_produces_with_any_acks(kafka, name, acks):
    topic = name()
    produce(kafka, topic, "a:1\nb:2\nc:3\n", "-X", f"acks={acks}")
    assert consume(kafka, topic) == ["a=1||0", "b=2||0", "c=3||0"]


def test_idempotent_producer_writes_once(kafka, name):
    topic = name()
    produce(kafka, topic, "".join(f"k{n}:{n}\n" for n in range(1000)), "-X", "enable.idempotence=true")
    assert len(consume(kafka, topic)) == 1000


def test_null_value_is_a_tombstone(kafka, name):
    topic = name()
    produce(kafka, topic, "gone:\n", "-Z")
    answer = run(["kcat", "-b", kafka, "-C", "-t", topic, "-e", "-q", "-o", "beginning", "-f", "%k %S\n"])
    assert answer.stdout == "gone -1\n"


def test_timestamp_lookup_finds_the_offset(kafka, name):
    topic = name()
    produce(kafka, topic, "a:1\nb:2\n")
    answer = run(["kcat", "-b", kafka, "-Q", "-t", f"{topic}:0:1"])
    assert answer.stdout.strip() == f"{topic} [0] offset 0"


def test_group_resumes_where_it_stopped(kafka, name):
    topic, group = name(), name("group")
    options = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"]

    def take(count):
        command = ["kcat", "-b", kafka, "-q", "-f", "%s\n", *options, "-c", count, "-G", group, topic]
        return run(command).stdout.split()

    produce(kafka, topic, "".join(f"k:{n}\n" for n in range(10)))
    assert take(4) == ["0", "1", "2", "3"]
    produce(kafka, topic, "k:10\n")
    assert take(7) == [str(n) for n in range(4, 11)]
