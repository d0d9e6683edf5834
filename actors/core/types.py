"""The records that cross a border between stages, and the Parquet schema of each.

Invariants: records are immutable; every record made by a model carries the versions of the models that made it; this module
imports neither ray nor torch. Version ``-1`` is the frozen base model (before any training), ``0`` the warm start and ``u + 1``
what unit ``u`` published.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import pyarrow as pa

from actors.core.text import identifier_words, sentences
from configs.errors import InputError as InputError

BASE_VERSION = -1
"""The version of a model that was not trained by us: the frozen encoder, the untrained rewriter."""

DOCUMENT_SENTENCES, DOCUMENT_WORDS, DOCUMENT_PARAMETERS = 2, 45, 12
"""What a tool's document holds at most: sentences and words of its description, names of parameters."""

QueryKind = Literal["standard", "vague", "sentence", "example", "symptom", "log"]
LABELLED_KINDS: tuple[QueryKind, ...] = ("standard", "vague")
"""Kinds of query that somebody asked, with the tools that answer them."""
CATALOG_KINDS: tuple[QueryKind, ...] = ("symptom", "sentence", "example")
"""Kinds of query that come from the catalog's own text."""
LOG_KIND: QueryKind = "log"
"""The kind of a query that a user asked while the system ran."""
Split = Literal["train", "dev", "test", "stream"]
"""``stream``: training queries set aside for a simulated query log; no run reads them."""
Novelty = Literal["seen", "unseen", "new provider", ""]
Mode = Literal["bm25", "raw", "rewrite", "fused", "hybrid"]
Weighed = Literal["reranked", "remembered", "named"]
"""Modes that order a raw ranking anew: by the query's likelihood, by labelled queries near to it, by which tools name others."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One top-level parameter of a tool."""

    name: str
    type: str = ""
    required: bool = False
    description: str = ""


@dataclass(frozen=True)
class Tool:
    """One callable API operation.

    ``title`` is how a person would write the name ("Amazon S3: Create Bucket"); ``description`` is plain text, a paragraph a line.
    ``ready_document`` is the text to embed where the source prescribes it (a published benchmark).
    """

    tool_id: str
    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...] = ()
    namespace: str = ""
    source: str = ""
    ready_document: str = ""

    @cached_property
    def document(self) -> str:
        """The text that is embedded and indexed: title, the description's first sentences, parameter names as words.

        About 52 tokens in the mean for the AWS catalog; whole descriptions take more than twice that and push the parameters out.
        """
        if self.ready_document:
            return self.ready_document
        opening = " ".join(" ".join(sentences(self.description)[:DOCUMENT_SENTENCES]).split()[:DOCUMENT_WORDS])
        text = f"{self.title}. {opening}".strip()
        names = (" ".join(identifier_words(p.name)).lower() for p in self.parameters[:DOCUMENT_PARAMETERS])
        return f"{text} Parameters: {', '.join(names)}." if self.parameters else text

    @cached_property
    def content_hash(self) -> str:
        """Hash of everything that a reader of the catalog sees: 16 hex digits."""
        parameters = [[p.name, p.type, p.required, p.description] for p in self.parameters]
        content = [self.tool_id, self.name, self.title, self.description, parameters, self.ready_document]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Query:
    """What a user asked, with the tools that answer it.

    ``gold`` maps tool id to grade (>= 1). ``tier`` is the slice a quality figure is given for: "standard", "V1", "V2", "V3" or the
    kind itself. ``need`` joins the wordings of one need: a need stands in one split. ``novelty`` says whether training has other
    queries for a gold tool ("seen"), none ("unseen") or none of any kind for the whole provider ("new provider"); empty where the
    source does not say.
    """

    query_id: str
    text: str
    kind: QueryKind
    split: Split
    gold: dict[str, int]
    tier: str = "standard"
    need: str = ""
    novelty: Novelty = ""
    group: str = ""


@dataclass(frozen=True)
class Catalog:
    """All tools. ``equivalents[t]`` are the tools that must never be a negative for ``t`` (twins, families, equal texts)."""

    tools: tuple[Tool, ...]
    equivalents: dict[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[str, Tool]:
        """Tool id -> tool."""
        return {tool.tool_id: tool for tool in self.tools}

    @cached_property
    def catalog_hash(self) -> str:
        """Hash over the content of all tools, whatever their order: 16 hex digits."""
        hashes = sorted(tool.content_hash for tool in self.tools)
        return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]

    def never_negative(self, tool_ids: list[str]) -> set[str]:
        """The gold tools and everything equivalent to one of them."""
        return set(tool_ids).union(*(self.equivalents.get(t, frozenset()) for t in tool_ids))


@dataclass(frozen=True)
class Corpus:
    """A catalog with its queries; every gold tool is in the catalog (checked by the loader)."""

    catalog: Catalog
    queries: tuple[Query, ...]

    def select(self, split: Split, kinds: tuple[str, ...] = ()) -> list[Query]:
        """Queries of one split, of the given kinds (all kinds if empty), in file order."""
        return [q for q in self.queries if q.split == split and (not kinds or q.kind in kinds)]


@dataclass(frozen=True, slots=True)
class Unit:
    """The set of queries that goes through the loop together: a pure function of (index, seed, frozen query ids)."""

    index: int
    seed: int
    query_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated text. ``finished`` is False where it was cut at the token limit."""

    text: str
    token_count: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A query of a tenant's, and the tools that it was found to be answered by."""

    tenant: str
    query: str
    tool_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one rewrite and its parts: NDCG@5 + margin term - penalties."""

    reward: float
    ndcg: float
    margin: float
    penalty: float


REWRITES = pa.schema(
    [
        ("unit", pa.int32()),
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("token_count", pa.int32()),
        ("finished", pa.bool_()),
        ("rewriter_version", pa.int32()),
        ("context_retriever_version", pa.int32()),
    ]
)
SCORED = pa.schema(
    [
        *REWRITES,
        ("reward", pa.float64()),
        ("ndcg", pa.float64()),
        ("margin", pa.float64()),
        ("penalty", pa.float64()),
        ("retriever_version", pa.int32()),
    ]
)
PAIRS = pa.schema(
    [
        ("unit", pa.int32()),
        ("query_id", pa.string()),
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("chosen_reward", pa.float64()),
        ("rejected_reward", pa.float64()),
        ("rewriter_version", pa.int32()),
        ("retriever_version", pa.int32()),
        ("reference_version", pa.int32()),
    ]
)
SCHEMAS: dict[str, pa.Schema] = {"rewrites": REWRITES, "scored": SCORED, "pairs": PAIRS}
