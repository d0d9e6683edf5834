"""Searches, their answers, and feedback on them.

Invariants: an answer was made by the one release that it names; scores are cosines (raw, rewrite, fused), reciprocal-rank sums
(hybrid), or cosines plus the weighted likelihood of the query (reranked) or the weighted nearness of labelled queries (remembered).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.core.events import Name, Result
from serve_app.schema.text import Body, QueryText

SearchMode = Literal["auto", "raw", "rewrite", "fused", "hybrid", "reranked", "remembered"]
UsedMode = Literal["raw", "rewrite", "fused", "hybrid", "reranked", "remembered"]
MAX_K = 100
MAX_BATCH = 100


class SearchOptions(Body):
    """How to search and how much to answer."""

    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = None
    """Tools to answer with. Null: as many as the scores justify, at most 10."""
    mode: SearchMode = "auto"
    """How to rank. ``auto`` remembers where the release gives labelled queries a weight, else rewrites where its rule says that it
    pays; ``reranked`` reads the first tools: slower."""
    namespaces: Annotated[list[Name], Field(max_length=100)] | None = None
    """Only tools of these namespaces (of those that the key may see)."""
    pinned: Annotated[list[Name], Field(max_length=100, default_factory=list)]
    """Tools to answer with in any case, before all others."""
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Only tools with at least this cosine. Null: the release's own, below which nothing is likely right; -1 answers always."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Only as many tools as take at most this many tokens (four characters each) with their schemas, the first in any case."""
    detail: Literal["full", "brief"] = "full"
    """``brief`` leaves out descriptions and schemas."""
    explain: bool = False
    """Say why each tool ranks where it does."""
    train_on: bool = True
    """Whether the query may be stored and learned from; false also where the key says so."""


class SearchRequest(SearchOptions):
    """One search."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "my pictures take forever to load in Australia", "k": 5, "explain": True}]}
    )

    query: QueryText
    """What the user wants, in the user's words."""


class BatchRequest(Body):
    """Several searches at once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"searches": [{"query": "make a bucket"}, {"query": "who spent all that money"}]}]}
    )

    searches: Annotated[list[SearchRequest], Field(min_length=1, max_length=MAX_BATCH)]
    """The searches; answered in this order."""


class Explanation(BaseModel):
    """Why a tool ranks where it does."""

    query_cosine: float
    """Cosine of the query with the tool."""
    rewrite_cosine: float | None = None
    """Cosine of the mean rewrite with the tool, where there is a rewrite."""
    likelihood: float | None = None
    """Mean log-likelihood of a token of the query given the tool's entry, where it was read (reranked)."""
    nearness: float | None = None
    """Highest cosine of the query to a labelled query of the tool, where one is near (remembered)."""
    named_by: str | None = None
    """The tool above whose description names this one as to be called, where that is why it stands here."""
    words: float | None = None
    """BM25 score, where words counted (hybrid)."""
    moved: bool = False
    """Whether the tool was moved towards queries that users found it by."""
    frozen: bool = False
    """Whether the frozen encoder answered, as the first tool was unlike all that the trained one knows."""
    exact_name: bool = False
    """Whether the query is the tool's name."""
    pinned: bool = False
    explored: bool = False
    """Whether it stands here for the log's sake."""
    shared_words: list[str] = []
    """Words that query (or rewrite) and the tool's text have in common."""


class FoundTool(BaseModel):
    """A tool of an answer."""

    tool_id: str
    rank: int
    score: float
    name: str
    title: str
    namespace: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    """JSON Schema of the parameters."""
    explanation: Explanation | None = None


class Timings(BaseModel):
    """Milliseconds of each stage of one search; null where it did not run."""

    total_ms: float
    search_ms: float
    """Embedding and scan, waiting for other searches included."""
    rewrite_ms: float | None = None
    rerank_ms: float | None = None


class SearchAnswer(BaseModel):
    """The answer to one search."""

    request_id: str
    """What feedback names it by."""
    release: str
    """Which release answered."""
    mode: UsedMode
    """How it was ranked in the end."""
    tools: list[FoundTool]
    rewrites: list[str]
    """The rewrites used; empty where there are none."""
    abstained: bool
    """Whether nothing scored high enough to be likely right."""
    degraded: str | None
    """Why the answer is less than what was asked for, as "no rewrite: ..."."""
    timings: Timings


class BatchAnswer(BaseModel):
    """Answers, in the order of the searches."""

    answers: list[SearchAnswer]


class OutcomeFeedback(Body):
    """A tool of an answer was called, and how that went."""

    type: Literal["outcome"]
    request_id: Name
    tool_id: Name
    result: Result


class LabelFeedback(Body):
    """Somebody says which tools answer a query."""

    type: Literal["label"]
    query: QueryText
    tool_ids: Annotated[list[Name], Field(min_length=1, max_length=100)]
    by: Name
    train_on: bool = True


FeedbackEvent = Annotated[OutcomeFeedback | LabelFeedback, Field(discriminator="type")]


class FeedbackRequest(Body):
    """Feedback of any kind."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"events": [{"type": "outcome", "request_id": "7f3a", "tool_id": "s3.CreateBucket", "result": "succeeded"}]},
                {"events": [{"type": "label", "query": "make a place for files", "tool_ids": ["s3.CreateBucket"], "by": "ann"}]},
            ]
        }
    )

    events: Annotated[
        list[Annotated[OutcomeFeedback | LabelFeedback, Field(discriminator="type")]], Field(min_length=1, max_length=1_000)
    ]


class FeedbackAnswer(BaseModel):
    """How many events were written to the query log."""

    written: int
