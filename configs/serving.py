"""Every setting of serving, with its default, in one place: the arguments of ``serve_app.app:build`` and of ``configs/serve.yaml``.

Invariants: unknown keys are refused; imports neither torch nor ray; a name carries its unit.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from configs.errors import InputError
from configs.schema import Count, Positive, Section, Share


class ShadowConfig(Section):
    """A candidate that answers a share of the searches unseen."""

    release: Count
    """Its number in the run."""
    share: Share = 0.1
    """Share of the searches that it answers too."""


class LimitsConfig(Section):
    """What one client may ask for; more is answered with 413 or 429."""

    body_bytes: Positive = 1_000_000
    """Largest request body."""
    requests_per_minute: Positive = 60_000
    """Requests of one tenant to one replica."""
    concurrent_requests: Positive = 128
    """Requests of one tenant under way in one replica."""


class ServingConfig(Section):
    """How a run's newest release is served."""

    run: str
    """The run directory whose served release answers, as an absolute path or relative to where the command was given."""
    query_log: str | None = None
    """Directory of the query log that searches and feedback are written to; ``RUN/query-log`` if null."""
    keys: str | None = None
    """File of API keys (``cohyde keys add``). Null: no key is asked for, and only clients of this machine are answered."""
    replicas: Positive = 1
    """Processes that hold encoder and index and answer searches."""
    threads: Positive = 2
    """Batches of searches that one replica computes at once, each on one core."""
    cpus: Annotated[float, Field(ge=0)] = 0.5
    """Logical CPUs of one replica (Ray's number)."""
    memory_gb: Annotated[float, Field(gt=0)] = 1.5
    """Expected peak resident memory of one replica."""
    batch_queries: Positive = 64
    """Queries embedded and searched together at most; nothing waits for a batch to fill."""
    rewriter_replicas: Count = 1
    """Processes that hold the rewriter; 0 serves raw results alone, and answers say so."""
    rewriter_threads: Positive = 2
    """Threads that one rewriter, or reranker, computes with."""
    rewriter_cpus: Annotated[float, Field(ge=0)] = 0.5
    """Logical CPUs of one rewriter, or reranker (Ray's number)."""
    rewrite_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    """A search waits this long for its rewrite, then answers without it."""
    rewrites_kept: Count = 10_000
    """Rewrites that a replica remembers, by rewriter, retriever and query."""
    reranker_replicas: Count = 1
    """Processes that hold the reranker, where the run trained one; 0 reranks nothing."""
    rerank_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """A search that is to be reranked waits this long, then answers as it was found."""
    auto_reranks: bool = False
    """Whether the mode ``auto`` reranks wherever the release can be; for those with a GPU, or a second or two a search."""
    explore_share: Share = 0.02
    """Share of the answers in which one place below the first goes to a tool from further down, for the log's sake."""
    look_every_s: Annotated[float, Field(gt=0)] = 0.5
    """How often a replica looks for a new release, for changes of the catalog and for what users found."""
    log_file_bytes: Positive = 64_000_000
    """A replica begins a new file of the query log after this much."""
    shadow: ShadowConfig | None = None
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _fields_fit(self) -> ServingConfig:
        if not self.run.strip():
            raise ValueError("run is empty; name a run directory, as run=runs/demo")
        return self


def parse(given: Mapping[str, Any]) -> ServingConfig:
    """Settings as ``serve run`` (texts) or a YAML file gives them. Raises InputError that names field, value and remedy."""
    try:
        return ServingConfig.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "settings"
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(first["loc"][-1]), list(ServingConfig.model_fields), 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(ServingConfig.model_fields)}"
            raise InputError(f"{field}: no such setting of serving; {hint}") from error
        if first["type"] == "missing":
            raise InputError(f"{field} is missing; give it, as {field}=runs/demo") from error
        told = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{field}={first['input']!r}: {told}" if first["loc"] else told) from error
