"""What goes over the wire: requests, answers, problem documents (RFC 9457).

Invariants: unknown fields of a request are refused; an answer was made by the one release that it names; scores are cosines (raw,
rewrite, fused) or reciprocal-rank sums (hybrid); times are milliseconds.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from actors.core.events import MAX_QUERY_CHARACTERS, Name, Result

SearchMode = Literal["auto", "raw", "rewrite", "fused", "hybrid"]
UsedMode = Literal["raw", "rewrite", "fused", "hybrid"]
MAX_K = 100
MAX_BATCH = 100
MAX_BULK = 10_000
MAX_TEXT = 20_000
"""Characters of a description."""


_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_HAS_CONTROL = re.compile(f"[{_CONTROL}]")


def _printable(value: str) -> str:
    if _HAS_CONTROL.search(value):
        raise ValueError("holds control characters")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return value


# The patterns are for the document alone: the functions say better what is wrong.
_Printable = Annotated[str, AfterValidator(_printable), Field(json_schema_extra={"pattern": f"^[^{_CONTROL}]*$"})]
_Query = Annotated[
    str,
    Field(min_length=1, max_length=MAX_QUERY_CHARACTERS, json_schema_extra={"pattern": f"^[^{_CONTROL}]*[!-~][^{_CONTROL}]*$"}),
    AfterValidator(_printable),
    AfterValidator(_not_blank),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SearchOptions(_Body):
    """How to search and how much to answer."""

    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = None
    """Tools to answer with. Null: as many as the scores justify, at most 10."""
    mode: SearchMode = "auto"
    """How to rank. ``auto`` rewrites where the release's rule says that it pays."""
    namespaces: Annotated[list[Name], Field(max_length=100)] | None = None
    """Only tools of these namespaces (of those that the key may see)."""
    pinned: Annotated[list[Name], Field(max_length=100)] = []
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

    query: _Query
    """What the user wants, in the user's words."""


class BatchRequest(_Body):
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
    words: float | None = None
    """BM25 score, where words counted (hybrid)."""
    moved: bool = False
    """Whether the tool was moved towards queries that users found it by."""
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


class OutcomeFeedback(_Body):
    """A tool of an answer was called, and how that went."""

    type: Literal["outcome"]
    request_id: Name
    tool_id: Name
    result: Result


class LabelFeedback(_Body):
    """Somebody says which tools answer a query."""

    type: Literal["label"]
    query: _Query
    tool_ids: Annotated[list[Name], Field(min_length=1, max_length=100)]
    by: Name
    train_on: bool = True


FeedbackEvent = Annotated[OutcomeFeedback | LabelFeedback, Field(discriminator="type")]


class FeedbackRequest(_Body):
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


class InputSchema(BaseModel):
    """JSON Schema of a tool's parameters: of an object; further keywords are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["object"] = "object"
    properties: dict[str, dict[str, Any]] = {}
    required: list[str] = []

    @model_validator(mode="after")
    def _writable(self) -> InputSchema:
        try:
            json.dumps(self.given(), ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("holds half of a surrogate pair, which UTF-8 cannot say") from error
        return self

    def given(self) -> dict[str, Any]:
        """The schema as it was given."""
        return {"type": self.type, **self.model_dump(exclude_unset=True)}


class ToolBody(_Body):
    """A tool, without its id (that is in the path)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "refund_order",
                    "title": "Orders: Refund",
                    "description": "Gives the money of an order back to its buyer.",
                    "namespace": "orders",
                    "input_schema": {
                        "type": "object",
                        "properties": {"order_id": {"type": "string", "description": "Which order."}},
                        "required": ["order_id"],
                    },
                }
            ]
        }
    )

    name: Annotated[_Printable, Field(min_length=1, max_length=256)]
    """What callers call it by."""
    title: Annotated[_Printable, Field(max_length=512)] = ""
    """How a person would write the name; the name's own words if empty."""
    description: Annotated[_Printable, Field(min_length=1, max_length=MAX_TEXT)]
    namespace: Annotated[_Printable, Field(max_length=256)] = ""
    input_schema: InputSchema = InputSchema()
    """Its top-level properties are the tool's parameters."""


class BulkTool(ToolBody):
    """A tool with its id."""

    tool_id: Name


class BulkRequest(_Body):
    """Several changes of the catalog, applied as one."""

    upserts: Annotated[list[BulkTool], Field(max_length=MAX_BULK)] = []
    deletes: Annotated[list[Name], Field(max_length=MAX_BULK)] = []


class ChangeAnswer(BaseModel):
    """What a change of the catalog did; durable and searchable in this replica when it is answered, in all within seconds."""

    changed: int
    """Tools whose content is new or different."""
    deleted: int
    unchanged: int
    embedded: int
    """Tools that had to be embedded."""
    tools: int
    """Tools in the catalog now."""


class ToolAnswer(BaseModel):
    """A tool of the catalog."""

    tool_id: str
    name: str
    title: str
    namespace: str
    description: str
    input_schema: dict[str, Any]
    content_hash: str
    source: str


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
