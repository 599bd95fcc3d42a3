"""Apache Kafka's own command-line tools, in Java, with the output that their users know."""

import re

import pytest
from confluent_kafka import Producer

from api_versions import offers
from tools import java, needs

pytestmark = [needs("java", "mvn"), pytest.mark.timeout(300)]  # The first one compiles and may download.
TOPICS = "org.apache.kafka.tools.TopicCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
CONFIGS = "kafka.admin.ConfigCommand"
DESCRIBE_QUORUM = 55
DUMP_LOG = "kafka.tools.DumpLogSegments"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"


def tool(main_class, kafka, *arguments, **options):
    return java(main_class, "--bootstrap-server", kafka, *arguments, **options)


def create(kafka, topic, partitions=1):
    return tool(TOPICS, kafka, "--create", "--topic", topic, "--partitions", partitions, "--replication-factor", 1)


def test_topics_are_created_listed_described_and_deleted(kafka, name):
    topic = name("hello-world")
    assert create(kafka, topic, partitions=2).stdout == f"Created topic {topic}.\n"
    again = tool(
        TOPICS, kafka, "--create", "--topic", topic, "--partitions", 1, "--replication-factor", 1, check=False
    )
    assert again.returncode == 1
    assert f"Topic '{topic}' already exists." in again.stdout
    listed = tool(TOPICS, kafka, "--list").stdout.split()
    assert listed == sorted(listed)
    assert {"__consumer_offsets", topic} <= set(listed)
    described = tool(TOPICS, kafka, "--describe", "--topic", topic).stdout.splitlines()
    assert re.fullmatch(
        rf"Topic: {topic}\tTopicId: \S{{22}}\tPartitionCount: 2\tReplicationFactor: 1\tConfigs: .*", described[0]
    )
    assert described[2].startswith(f"\tTopic: {topic}\tPartition: 1\tLeader: 1\tReplicas: 1\tIsr: 1")
    assert tool(TOPICS, kafka, "--describe", "--under-replicated-partitions").stdout == ""
    tool(TOPICS, kafka, "--delete", "--topic", topic)
    assert topic not in tool(TOPICS, kafka, "--list").stdout.split()


def test_console_producer_consumer_groups_and_offsets(kafka, name):
    topic, group = name("topic"), name("my-group")
    create(kafka, topic)

    def produce(text):
        options = ["--property", "parse.key=true", "--property", "key.separator=:"]
        tool(CONSOLE_PRODUCER, kafka, "--topic", topic, *options, stdin=text)

    def consume(count, *arguments):
        wait = ["--max-messages", count, "--timeout-ms", 20000, "--property", "print.key=true"]
        return tool(CONSOLE_CONSUMER, kafka, "--topic", topic, *wait, *arguments)

    produce("a:hello\nb:world\n")
    seen = consume(2, "--group", group, "--from-beginning")
    assert seen.stdout == "a\thello\nb\tworld\n"
    assert "Processed a total of 2 messages" in seen.stderr
    produce("c:later\n")
    described = tool(GROUPS, kafka, "--describe", "--group", group)
    assert "has no active members" in described.stdout + described.stderr
    (row,) = [line.split() for line in described.stdout.splitlines() if line.startswith(group)]
    assert row[:6] == [group, topic, "0", "2", "3", "1"]
    assert consume(1, "--group", group, "--from-beginning").stdout == "c\tlater\n"
    assert group in tool(GROUPS, kafka, "--list").stdout.split()
    reset = ["--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", topic]
    assert re.search(rf"{group}\s+{topic}\s+0\s+0", tool(GROUPS, kafka, *reset).stdout)
    assert tool(OFFSETS, kafka, "--topic", topic).stdout == f"{topic}:0:3\n"
    assert "successful" in tool(GROUPS, kafka, "--delete", "--group", group).stdout


def test_configs_are_altered_and_described(kafka, name):
    topic = name()
    create(kafka, topic)
    of_topic = ["--entity-type", "topics", "--entity-name", topic]
    changed = tool(CONFIGS, kafka, "--alter", *of_topic, "--add-config", "cleanup.policy=compact")
    assert changed.stdout == f"Completed updating config for topic {topic}.\n"
    assert "cleanup.policy=compact" in tool(CONFIGS, kafka, "--describe", *of_topic).stdout
    tool(CONFIGS, kafka, "--alter", *of_topic, "--delete-config", "cleanup.policy")
    assert "cleanup.policy=compact" not in tool(CONFIGS, kafka, "--describe", *of_topic).stdout


@pytest.mark.parametrize(
    "main_class, arguments, expected",
    [
        ("org.apache.kafka.tools.ClusterTool", ["cluster-id"], "Cluster ID: "),
        ("org.apache.kafka.tools.BrokerApiVersionsCommand", [], "Produce(0): "),
        ("org.apache.kafka.tools.LogDirsCommand", ["--describe"], '"brokers":[{'),
        ("org.apache.kafka.tools.GroupsCommand", ["--list"], "GROUP"),
        ("org.apache.kafka.tools.MetadataQuorumCommand", ["describe", "--status"], "LeaderId:"),
    ],
)
def test_other_tools_answer(kafka, name, main_class, arguments, expected):
    if main_class.endswith("MetadataQuorumCommand") and not offers(kafka, DESCRIBE_QUORUM):
        pytest.skip("this broker does not offer DescribeQuorum yet")
    if arguments == ["cluster-id"]:
        seen = java(main_class, *arguments, "--bootstrap-server", kafka)
    else:
        seen = tool(main_class, kafka, *arguments)
    assert expected in seen.stdout


def test_dump_log_reads_our_segments(server, name):
    topic = name()
    create(server.kafka, topic)
    tool(CONSOLE_PRODUCER, server.kafka, "--topic", topic, stdin="one\ntwo\nthree\n")
    (segment,) = server.data.glob(f"**/{topic}-0/00000000000000000000.log")
    dumped = java(DUMP_LOG, "--deep-iteration", "--print-data-log", "--files", segment).stdout
    assert [line for line in ("one", "two", "three") if f"payload: {line}\n" in dumped] == ["one", "two", "three"]
    assert "isvalid: true" in dumped


def test_transactions_are_listed_and_their_files_are_readable(own_server, name):
    """The formats of `__transaction_state`, `.txnindex` and `.snapshot`, as Kafka's own code reads them."""
    server, topic, identity = own_server, name(), name("transaction")
    create(server.kafka, topic)
    producer = Producer({"bootstrap.servers": server.kafka, "transactional.id": identity})
    producer.init_transactions(15)
    for end in [producer.commit_transaction, producer.abort_transaction, None]:
        producer.begin_transaction()
        producer.produce(topic, "value")
        producer.flush(10)
        if end:
            end(10)
    assert identity in tool(TRANSACTIONS, server.kafka, "list").stdout
    described = tool(TRANSACTIONS, server.kafka, "describe", "--transactional-id", identity).stdout
    assert "Ongoing" in described and f"{topic}-0" in described
    producers = tool(TRANSACTIONS, server.kafka, "describe-producers", "--topic", topic, "--partition", 0).stdout
    assert re.search(r"^\d+\s+0\s+", producers, re.M), producers
    # A start after a crash writes index and snapshot anew.
    server.kill()
    server.start()
    assert server.wait_until_ready()
    (data,) = server.data.glob(f"**/{topic}-0")

    def dump(file, *options):
        return java(DUMP_LOG, *options, "--files", file).stdout

    log = dump(data / "00000000000000000000.log", "--deep-iteration")
    assert log.count("endTxnMarker: COMMIT") == 1 and log.count("endTxnMarker: ABORT") == 1, log
    aborted = dump(data / "00000000000000000000.txnindex")
    assert re.search(r"firstOffset: 2 lastOffset: 3 lastStableOffset: 4", aborted), aborted
    files = server.data.glob("**/__transaction_state-*/*.log")
    states = [dump(file, "--transaction-log-decoder") for file in files]
    # Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort.
    for status in range(1, 6):
        assert any(f'"transactionStatus":{status},' in text and identity in text for text in states), (status, states)
