"""What travelled on the bus of the platform on the cluster."""

import json
from collections.abc import Sequence
from typing import Any

from tests.cluster.platform.conftest import Platform

_READ_TOPICS = """
import json, sys, time
from confluent_kafka import Consumer, TopicPartition
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "reader", "enable.auto.commit": False})
known = consumer.list_topics(timeout=60).topics
places = [TopicPartition(name, number) for name in sys.argv[2:] for number in known[name].partitions]
ends = {}
for place in places:
    first, end = consumer.get_watermark_offsets(place, timeout=60)
    place.offset = first
    if first < end:
        ends[place.topic, place.partition] = end
consumer.assign(places)
deadline = time.monotonic() + 60
while ends and time.monotonic() < deadline:
    message = consumer.poll(5)
    if message is None or message.error():
        continue
    print(json.dumps([message.topic(), json.loads(message.value())]))
    if message.offset() + 1 >= ends.get((message.topic(), message.partition()), 0):
        ends.pop((message.topic(), message.partition()), None)
consumer.close()
"""


def events(platform: Platform, *topics: str) -> list[tuple[str, dict[str, Any]]]:
    """Topic and envelope of everything that these topics hold."""
    address = "kafka.trading-data.svc.cluster.local:9092"
    command = ("python", "-c", _READ_TOPICS, address, *topics)
    told = platform.cluster.kubectl("exec", "deployment/order", "-n", "trading-system", "--", *command)
    return [(topic, envelope) for topic, envelope in map(json.loads, told.splitlines())]


def payloads(found: Sequence[tuple[str, dict[str, Any]]], type_: str) -> list[dict[str, Any]]:
    """Payloads of the events of one type."""
    return [envelope["payload"] for _, envelope in found if envelope["type"] == type_]
