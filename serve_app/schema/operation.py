"""Releases, health, and errors (problem documents, RFC 9457)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class ReleaseEntry(BaseModel):
    """One release that there was, and what was decided of it."""

    number: int
    served: bool
    rewriter: int
    retriever: int
    fusion_weight: float
    figures: dict[str, float]
    """What the gate saw: slice -> NDCG@5 on dev."""
    decision: str
    """The last decision, as "promoted" or "kept"."""
    reason: str
    time: float | None
    """Of that decision, in seconds since the epoch."""


class ShadowReport(BaseModel):
    """What a shadowed candidate would have answered, since this replica started."""

    release: str
    searches: int
    agreement_at_5: float
    """Mean share of the served first five that are among its own."""
    same_first: float
    """Share of searches with the same first tool."""
    outcomes: int
    """Successes reported for shadowed searches."""
    estimated_gain: float
    """Mean change of 1 / log2(1 + rank) of the tool that succeeded; positive: the candidate ranks it higher."""


class ReleasesAnswer(BaseModel):
    """Releases of the run, newest first."""

    served: str
    releases: list[ReleaseEntry]
    shadow: ShadowReport | None


class HealthAnswer(BaseModel):
    """The process lives."""

    status: Literal["ok"]


class ReadyAnswer(BaseModel):
    """The process answers searches."""

    status: Literal["ready"]
    release: str
    tools: int
    rewriter: str
    reranker: str
    """"ready", "starting", "off", or what is wrong."""
    degraded: list[str]
    """What is not as it should be, as a query log that cannot be written."""


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
    """One entry a field that is wrong: {field, message}."""
