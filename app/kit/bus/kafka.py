"""The bus on Kafka."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic
from prometheus_client import Gauge

from app.kit import logs
from app.kit.bus import Bus, Message, Record, Subscription, Topic
from app.kit.errors import Unavailable

_ANSWER_SECONDS = 5.0
_DELIVERY_SECONDS = 15.0
_QUIET_SECONDS = 30.0
_LAG_SECONDS = 5.0
"""Between two measurements of what a consumer has not taken yet."""
_BROADCAST = "broadcast"
"""Label of subscriptions without a group: each process reads everything."""
T = TypeVar("T")
_lag = Gauge(
    "bus_consumer_lag",
    "Messages of this process's partitions that it has not taken yet",
    ["topic", "group"],
)
_log = logs.get(__name__)
_library_log = logging.getLogger("librdkafka")
_library_log.setLevel(logging.CRITICAL)  # it tells every attempt to reconnect; `_Errors` tells the outage


class _Errors:
    """Logs what the client reports, each kind at most once in a while: it reports every failed attempt."""

    def __init__(self) -> None:
        self._told: dict[int, float] = {}

    def __call__(self, error: KafkaError) -> None:
        now = time.monotonic()
        if error.fatal() or now - self._told.get(error.code(), -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._told[error.code()] = now
            _log.warning("kafka", error=error.str(), fatal=error.fatal())


class _KafkaSubscription(Subscription):
    """A consumer in a thread of its own: one hop for a batch is a fraction of what the library's asyncio
    client costs with several."""

    def __init__(
        self, config: dict[str, Any], group: str | None, subscriptions: "set[_KafkaSubscription]"
    ) -> None:
        self._thread = ThreadPoolExecutor(1, "kafka-consumer")
        self._consumer = Consumer(config)
        self._group = group
        self._subscriptions = subscriptions
        subscriptions.add(self)
        self._told: set[str] = set()
        self._measuring = asyncio.create_task(self._measure())

    async def call(self, work: Callable[[Consumer], T]) -> T:
        """Let the thread do something with the consumer."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._consumer)

    async def batch(self, limit: int, seconds: float, gather: float = 0.0) -> list[Message]:
        def receive(consumer: Consumer) -> list[KafkaMessage]:
            # `consume` by itself would wait `seconds` for all `limit` of them.
            first = consumer.poll(seconds)
            if first is None or limit == 1:
                return [] if first is None else [first]
            return [first, *consumer.consume(limit - 1, gather)]

        received = await self.call(receive)
        messages = []
        for message in received:
            error = message.error()
            if error is None:
                key = (message.key() or b"").decode(errors="replace")
                messages.append(
                    Message(
                        message.topic() or "",
                        message.partition() or 0,
                        message.offset() or 0,
                        key,
                        message.value() or b"",
                    )
                )
            elif error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Unavailable("kafka", error.str())
            else:
                _log.warning("kafka", error=error.str(), fatal=False)
        return messages

    async def commit(self, messages: Sequence[Message]) -> None:
        if self._group is None or not messages:
            return
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            ends[message.topic, message.partition] = message.offset + 1
        offsets = [TopicPartition(topic, number, end) for (topic, number), end in ends.items()]
        try:
            await self.call(lambda consumer: consumer.commit(offsets=offsets, asynchronous=False))
        except KafkaException as error:
            raise Unavailable("kafka", error) from error

    async def close(self) -> None:
        self._subscriptions.discard(self)
        self._measuring.cancel()
        try:
            await self.call(lambda consumer: consumer.close())
        finally:
            self._thread.shutdown(wait=False)
            self._tell({})

    async def _measure(self) -> None:
        """Tell the lag for as long as the subscription lasts, also while nobody asks for messages."""
        while True:
            await asyncio.sleep(_LAG_SECONDS)
            try:
                self._tell(await self.call(_behind))
            except KafkaException as error:
                _log.warning("kafka lag", error=str(error))

    def _tell(self, behind: Mapping[str, int]) -> None:
        group = self._group or _BROADCAST
        for topic in self._told - set(behind):
            _lag.remove(topic, group)
        for topic, messages in behind.items():
            _lag.labels(topic, group).set(messages)
        self._told = set(behind)


def _behind(consumer: Consumer) -> dict[str, int]:
    """Messages between a consumer's place and the end, by topic, as far as fetches have told the end.

    Partitions of which nothing was taken yet have no place and count as 0.
    """
    found: dict[str, int] = {}
    for place in consumer.position(consumer.assignment()):
        found.setdefault(place.topic, 0)
        _, end = consumer.get_watermark_offsets(place, cached=True)
        if place.offset >= 0 and end >= 0:
            found[place.topic] += max(0, end - place.offset)
    return found


def msk_iam(region: str) -> dict[str, Any]:
    """Client settings by which Amazon MSK knows this process by its AWS role; the brokers are in `region`.

    The client asks for a token before its first connection and again before the token's 15 minutes are over,
    in a thread of its own, so the callback may wait for the credentials.
    """
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # type: ignore[import-untyped]

    def token(_: str) -> tuple[str, float]:
        value, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return value, expires_ms / 1000

    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": token,
        # MSK limits the rate of new connections with IAM: 4 per second on the smallest broker, 100 on others.
        "reconnect.backoff.ms": 1000,
        "reconnect.backoff.max.ms": 10000,
    }


class KafkaBus(Bus):
    """Idempotent producer with acks=all; consumers that commit only when told to.

    `servers` are bootstrap servers `host:port`, separated by commas; `security` is what `msk_iam` makes, and
    without it the connection is plain text.
    """

    def __init__(self, servers: str, client_id: str, security: Mapping[str, Any] | None = None) -> None:
        self._common: dict[str, Any] = {
            "bootstrap.servers": servers,
            "client.id": client_id,
            "log.connection.close": False,
            "reconnect.backoff.ms": 250,
            "reconnect.backoff.max.ms": 2000,
            "socket.connection.setup.timeout.ms": 5000,
            "topic.metadata.refresh.interval.ms": 30000,
            **(security or {}),
        }
        self._producer: Producer | None = None
        self._subscriptions: set[_KafkaSubscription] = set()

    def _config(self, **extra: Any) -> dict[str, Any]:
        named = {key.replace("_", "."): value for key, value in extra.items()}
        return {**self._common, "logger": _library_log, "error_cb": _Errors(), **named}

    def _connected_producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                self._config(
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=5,
                    message_timeout_ms=int(_DELIVERY_SECONDS * 1000),
                    compression_type="lz4",
                    partitioner="murmur2_random",
                )
            )
        return self._producer

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """See `Bus`."""
        if not records:
            return
        producer, loop = self._connected_producer(), asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        failures: list[KafkaError] = []
        waiting = len(records)

        def delivered(error: KafkaError | None, _: object) -> None:
            # Called in whichever thread flushes just then, one call at a time.
            nonlocal waiting
            waiting -= 1
            if error is not None:
                failures.append(error)
            if not waiting:
                loop.call_soon_threadsafe(_finish, stored)

        try:
            for record in records:
                producer.produce(topic, value=record.value, key=record.key, on_delivery=delivered)
        except (KafkaException, BufferError) as error:
            raise Unavailable("kafka", error) from error
        await loop.run_in_executor(None, producer.flush)
        await stored
        if failures:
            if failures[0].fatal():
                self._producer = None
            raise Unavailable("kafka", failures[0].str())

    async def subscribe(self, topics: Sequence[str], group: str | None) -> Subscription:
        """See `Bus`."""
        config = self._config(
            group_id=group or f"broadcast-{uuid.uuid4()}",
            enable_auto_commit=False,
            auto_offset_reset="earliest" if group else "latest",
            allow_auto_create_topics=False,
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=10000,
            heartbeat_interval_ms=1000,
            queued_max_messages_kbytes=8192,
        )

        def join(consumer: Consumer) -> None:
            known = consumer.list_topics(timeout=_ANSWER_SECONDS).topics
            missing = [topic for topic in topics if topic not in known or known[topic].error is not None]
            if missing:
                raise Unavailable("kafka", f"no topic {', '.join(missing)}")
            if group:
                consumer.subscribe(list(topics))
                return
            # Without group management: no rebalance, and the place is fixed before this returns.
            places = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]
            for place in places:
                _, place.offset = consumer.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)
            consumer.assign(places)

        subscription = _KafkaSubscription(config, group, self._subscriptions)
        try:
            await subscription.call(join)
        except BaseException as error:
            await subscription.close()
            if isinstance(error, KafkaException):
                raise Unavailable("kafka", error) from error
            raise
        return subscription

    async def ensure(self, topics: Sequence[Topic]) -> None:
        """See `Bus`."""
        await asyncio.get_running_loop().run_in_executor(None, self._ensure, topics)
        await self.ping()  # the producer learns of new partitions

    def _ensure(self, topics: Sequence[Topic]) -> None:
        admin = AdminClient(dict(self._common), logger=_library_log)
        try:
            known = admin.list_topics(timeout=_ANSWER_SECONDS).topics
            created = [
                NewTopic(t.name, num_partitions=t.partitions, replication_factor=-1)
                for t in topics
                if t.name not in known
            ]
            grown = [
                NewPartitions(t.name, t.partitions)
                for t in topics
                if t.name in known and len(known[t.name].partitions) < t.partitions
            ]
            configured = [
                ConfigResource(
                    ResourceType.TOPIC,
                    t.name,
                    incremental_configs=[
                        ConfigEntry(
                            "retention.ms",
                            str(t.retention_seconds * 1000),
                            incremental_operation=AlterConfigOpType.SET,
                        )
                    ],
                )
                for t in topics
            ]
            for pending in (
                admin.create_topics(created) if created else {},
                admin.create_partitions(grown) if grown else {},
            ):
                for future in pending.values():
                    future.result(timeout=_ANSWER_SECONDS * 2)
            for done in admin.incremental_alter_configs(configured).values():
                done.result(timeout=_ANSWER_SECONDS * 2)
        except (KafkaException, TimeoutError) as error:
            raise Unavailable("kafka", error) from error

    async def ping(self) -> None:
        """See `Bus`."""
        producer = self._connected_producer()
        try:
            await asyncio.to_thread(producer.list_topics, timeout=_ANSWER_SECONDS)
        except KafkaException as error:
            raise Unavailable("kafka", error) from error

    async def close(self) -> None:
        """See `Bus`."""
        # A consumer that is collected while its group moves waits for ever, and holds the whole process.
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.purge()
            await asyncio.to_thread(producer.flush, _ANSWER_SECONDS)


def _finish(stored: "asyncio.Future[None]") -> None:
    if not stored.done():
        stored.set_result(None)
