"""A consumer in a process of its own, so that a test can kill it: member.py KAFKA GROUP TOPIC STRATEGY.

Prints its partitions at each change and each value as it comes, one JSON line each; commits after every message.
"""

import json
import sys

from confluent_kafka import Consumer


def say(**what):
    print(json.dumps(what), flush=True)


def main(kafka, group, topic, strategy):
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": strategy,
        }
    )

    def changed(_consumer, _partitions):
        changed.pending = True

    changed.pending = False
    consumer.subscribe([topic], on_assign=changed, on_revoke=changed)
    while True:
        message = consumer.poll(0.1)
        if changed.pending:
            changed.pending = False
            say(partitions=sorted(each.partition for each in consumer.assignment()))
        if message and not message.error():
            consumer.commit(message=message, asynchronous=False)
            say(value=message.value().decode())


main(*sys.argv[1:])
