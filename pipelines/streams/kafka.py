"""Query log as a Kafka topic, read with librdkafka.

Invariants: partitions are assigned by hand from our own position, so a group's memory at the broker is for its dashboards alone;
the brokers may be away for a while: that is ``SourceLost``, and the next poll tries again.
"""

from __future__ import annotations

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from actors.core.types import InputError
from pipelines.streams import Position, Record, SourceLost

REQUEST_TIMEOUT_S = 10.0
DISCOVER_S = 60.0
"""How often new partitions are looked for."""


class KafkaSource:
    """All partitions of one topic."""

    def __init__(self, servers: str, topic: str, group: str) -> None:
        """``servers`` as in ``bootstrap.servers``.

        Raises ``SourceLost`` where no broker answers, ``InputError`` for an unknown topic.
        """
        self._servers, self._topic = servers, topic
        settings = {
            "bootstrap.servers": servers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "log_level": 0,
        }
        self._consumer = Consumer(settings)
        self._next: dict[int, int] = {}
        self._discovered = 0.0
        self._partitions: set[int] = set()
        self._discover()

    def seek(self, position: Position) -> None:
        """Go on from next offsets by partition; a partition without one is read from its beginning."""
        self._next = {int(partition): int(offset) for partition, offset in position.items()}
        self._assign()

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """At most ``limit`` messages; empty after ``timeout_s``. Raises ``SourceLost``."""
        if time.monotonic() - self._discovered > DISCOVER_S:
            known = set(self._partitions)
            self._discover()
            if self._partitions != known:
                self._assign()
        records = []
        for message in self._consumer.consume(limit, timeout_s):
            error = message.error()
            if error is not None:
                self._refuse(error)
                continue
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None, "a message without error stands somewhere"
            self._next[partition] = offset + 1
            place = f"{self._topic} partition {partition} offset {offset}"
            records.append(Record(message.value() or b"", place))
        return records

    def position(self) -> Position:
        """Next offset of each partition."""
        return {str(partition): offset for partition, offset in self._next.items()}

    def commit(self, position: Position) -> None:
        """Tell the broker the group's offsets. Raises ``SourceLost``."""
        offsets = [TopicPartition(self._topic, int(p), int(offset)) for p, offset in position.items()]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise SourceLost(f"Kafka at {self._servers}: {error}") from error

    def depth(self) -> int | None:
        """Messages not read yet; None while the brokers do not say."""
        unread = 0
        for partition in self._partitions:
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=REQUEST_TIMEOUT_S)
            except KafkaException:
                return None
            unread += max(0, high - max(low, self._next.get(partition, 0)))
        return unread

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def _discover(self) -> None:
        try:
            topic = self._consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
        except KafkaException as error:
            raise SourceLost(f"Kafka at {self._servers}: {error}") from error
        if topic.error is not None or not topic.partitions:
            raise InputError(f"stream.topic={self._topic}: Kafka at {self._servers} has no such topic; create it or name another")
        self._partitions, self._discovered = set(topic.partitions), time.monotonic()

    def _assign(self) -> None:
        places = [TopicPartition(self._topic, p, self._next.get(p, OFFSET_BEGINNING)) for p in sorted(self._partitions)]
        self._consumer.assign(places)

    def _refuse(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise InputError(f"stream.topic={self._topic}: Kafka at {self._servers} says {error.str()}; create it or name another")
        raise SourceLost(f"Kafka at {self._servers}: {error.str()}")
