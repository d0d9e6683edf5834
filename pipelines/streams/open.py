"""From the configuration to a source. The brokers' libraries are imported where they are asked for."""

from __future__ import annotations

from pathlib import Path

from configs.schema import StreamConfig
from pipelines.streams import Source


def open_source(config: StreamConfig) -> Source:
    """The query log that ``config`` names. Raises ``InputError``, or ``SourceLost`` where a broker does not answer."""
    if config.source == "kafka":
        from pipelines.streams.kafka import KafkaSource

        return KafkaSource(config.address, config.topic, config.group)
    if config.source == "redis":
        from pipelines.streams.redis import RedisSource

        return RedisSource(config.address, config.topic, config.group)
    from pipelines.streams.jsonl import JsonlSource

    return JsonlSource(Path(config.address))
