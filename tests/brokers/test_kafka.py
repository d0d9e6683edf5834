"""The Kafka source against a cluster that speaks the protocol: the one inside librdkafka."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from actors.core.types import InputError
from pipelines.streams import Record, SourceLost
from pipelines.streams.kafka import KafkaSource

DEADLINE_S = 40.0


class Cluster:
    """One mock broker, alive as long as its producer is."""

    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._producer.list_topics(timeout=10).brokers.values()
        self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def write(self, topic: str, first: int, last: int) -> None:
        for number in range(first, last):
            self._producer.produce(topic, f"event {number}".encode(), key=str(number % 3))
        assert self._producer.flush(10) == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield Cluster()


def read(source: KafkaSource, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(records) < count and time.monotonic() < deadline:
        records += source.poll(4, 1.0)
    return records


def test_reading_goes_on_from_the_position_whatever_the_group_remembers(cluster: Cluster) -> None:
    cluster.write("log", 0, 10)
    source = KafkaSource(cluster.servers, "log", "group")
    source.seek({})
    assert {r.data for r in read(source, 10)} == {f"event {n}".encode() for n in range(10)}
    position = source.position()
    source.commit(position)
    source.close()
    cluster.write("log", 10, 15)
    again = KafkaSource(cluster.servers, "log", "group")
    again.seek(position)
    assert again.depth() == 5
    assert {r.data for r in read(again, 5)} == {f"event {n}".encode() for n in range(10, 15)}
    assert again.poll(4, 0.5) == []
    again.seek({})
    assert len(read(again, 15)) == 15
    again.close()


def test_each_record_says_where_it_stood(cluster: Cluster) -> None:
    cluster.write("places", 0, 3)
    source = KafkaSource(cluster.servers, "places", "group")
    source.seek({})
    places = {r.place for r in read(source, 3)}
    source.close()
    assert len(places) == 3
    assert all(place.startswith("places partition ") for place in places)


def test_a_broker_that_does_not_answer_is_named() -> None:
    with pytest.raises(SourceLost, match=r"127\.0\.0\.1:1"):
        KafkaSource("127.0.0.1:1", "log", "group")


def test_a_topic_that_does_not_exist_is_one_line(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # The mock cluster creates whatever topic is asked for, so its answer about this one is altered.
    source = KafkaSource(cluster.servers, "log", "group")
    found = source._consumer.list_topics("log", timeout=10)
    source.close()
    found.topics["log"].partitions.clear()

    class Deaf:
        def __init__(self, settings: object) -> None:
            """Takes any settings."""

        def list_topics(self, topic: str, timeout: float) -> object:
            return found

    monkeypatch.setattr("pipelines.streams.kafka.Consumer", Deaf)
    with pytest.raises(InputError, match=r"stream\.topic=log: Kafka at .* has no such topic; create it or name another"):
        KafkaSource(cluster.servers, "log", "group")
