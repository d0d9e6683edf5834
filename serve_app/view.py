"""What answers: one release over one state of the catalog and of what users found; replaced as a whole, never changed.

Invariants: every ranking of a view comes from its own encoder and vectors, so no answer mixes versions; tools that a search may not
see are left out before anything is counted.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from actors.catalog_file import Entry
from actors.core.fusion import Vectors, fuse, reciprocal_rank
from actors.core.named import NamedTools
from actors.core.text import identifier_words
from actors.index import DenseIndex
from actors.lexical import LexicalIndex, Ranking
from actors.memory import Memory, Recalled, recall
from actors.retriever import TextEncoder
from actors.run_dir import OpenedRelease

WORD_DEPTH = 100
"""Tools that BM25 gives to a hybrid ranking."""


@dataclass(frozen=True)
class Ask:
    """One ranking that is wanted: of a query, alone or with rewrites whose weight is given; among ``namespaces`` only, if given."""

    query: str
    k: int
    rewrites: tuple[str, ...] = ()
    weight: float = 0.0
    hybrid: bool = False
    namespaces: tuple[str, ...] | None = None
    remember: bool = False
    """Whether labelled queries are to be asked, too."""


@dataclass(frozen=True)
class Ranked:
    """Its answer: tools with scores, best first, and the vectors it was made from ([d] each; the rewrites' mean, or None)."""

    ranking: Ranking
    query: Vectors
    rewrite: Vectors | None
    words: dict[str, float]
    """BM25 scores, where words counted."""
    recalled: Recalled | None = None
    """What labelled queries say of the ranking, where that was asked for."""
    frozen: bool = False
    """Whether the vectors are the frozen encoder's."""


@dataclass(frozen=True)
class View:
    """``dense`` holds the tools of ``entries``, some of them (``moved``) where users' queries drew them."""

    release: OpenedRelease
    encoder: TextEncoder
    dense: DenseIndex
    entries: Mapping[str, Entry]
    moved: frozenset[str] = frozenset()
    memory: Memory | None = None
    """Labelled queries, where the release gives them a weight."""
    frozen: TextEncoder | None = None
    unfamiliar: frozenset[str] = frozenset()
    """Tools unlike all of the training (``actors.core.familiarity``): a query that finds one first is ``frozen``'s."""
    words: list[LexicalIndex] = field(default_factory=list)
    """BM25 over the tools, once it is made; for a moment after a change that over the tools before it."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The release's."""
        return self.release.name

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Tool id -> row of ``dense``."""
        return {tool_id: row for row, tool_id in enumerate(self.dense.tool_ids) if tool_id in self.entries}

    @cached_property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        """A name, title or id without case and marks -> the tools that have it."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for tool_id, entry in self.entries.items():
            for name in (tool_id, entry.tool.name, entry.tool.title):
                found[plain_name(name)].add(tool_id)
        return {name: tuple(sorted(ids)) for name, ids in found.items() if name}

    @cached_property
    def by_namespace(self) -> Mapping[str, NDArray[np.int64]]:
        """Namespace -> rows of ``dense``."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for tool_id, row in self.rows.items():
            found[self.entries[tool_id].tool.namespace].append(row)
        return {namespace: np.array(rows, dtype=np.int64) for namespace, rows in found.items()}

    @cached_property
    def names(self) -> NamedTools:
        """What descriptions name."""
        return NamedTools(entry.tool for entry in self.entries.values())

    def lexical(self) -> LexicalIndex:
        """BM25; made at its first use."""
        with self._lock:
            if not self.words:
                self.renew_words()
        return self.words[0]

    def renew_words(self) -> None:
        """Make BM25 over these very tools."""
        ids = list(self.entries)
        self.words[:] = [LexicalIndex(ids, [self.entries[t].tool.document for t in ids])]

    def rank(self, asks: Sequence[Ask]) -> list[Ranked]:
        """All of them at once: texts embedded together, and one scan for those that see the whole catalog."""
        embedded = self._embedded(asks, self.encoder)
        strange = self._strange(asks, [query for query, _ in embedded])
        if self.frozen is not None and strange:
            for i, vectors in zip(strange, self._embedded([asks[i] for i in strange], self.frozen), strict=True):
                embedded[i] = vectors
        queries, means = [query for query, _ in embedded], [mean for _, mean in embedded]
        mixed = np.stack(
            [
                query if mean is None else fuse(query[None], mean[None], ask.weight)[0]
                for ask, query, mean in zip(asks, queries, means, strict=True)
            ]
        )
        rankings = self._dense(asks, mixed)
        words = [self._words(ask) if ask.hybrid else {} for ask in asks]
        joined = [self._join(ask, ranking, by_words) for ask, ranking, by_words in zip(asks, rankings, words, strict=True)]
        recalled = self._recall(asks, joined, queries)
        by_frozen = [i in strange for i in range(len(asks))]
        return [Ranked(*parts) for parts in zip(joined, queries, means, words, recalled, by_frozen, strict=True)]

    def cosines(self, vector: Vectors, tool_ids: Sequence[str]) -> list[float]:
        """Cosine of a vector [d] with each tool."""
        length = max(float(np.linalg.norm(vector)), 1e-12)
        found: list[float] = (self.dense.rows([self.rows[t] for t in tool_ids]) @ vector / length).tolist() if tool_ids else []
        return found

    @staticmethod
    def _embedded(asks: Sequence[Ask], encoder: TextEncoder) -> list[tuple[Vectors, Vectors | None]]:
        """Of each its query's vector and its rewrites' mean."""
        texts = list(dict.fromkeys(text for ask in asks for text in (ask.query, *ask.rewrites)))
        vector = dict(zip(texts, encoder.encode_queries(texts), strict=True))
        return [(vector[ask.query], np.mean([vector[t] for t in ask.rewrites], axis=0) if ask.rewrites else None) for ask in asks]

    def _strange(self, asks: Sequence[Ask], queries: Sequence[Vectors]) -> list[int]:
        """Places of those that find an unfamiliar tool first."""
        if not self.unfamiliar:
            return []
        first = self._dense([replace(ask, k=1, hybrid=False) for ask in asks], np.stack(queries))
        return [i for i, ranking in enumerate(first) if ranking and ranking[0][0] in self.unfamiliar]

    def _recall(self, asks: Sequence[Ask], rankings: Sequence[Ranking], queries: Sequence[Vectors]) -> list[Recalled | None]:
        found: list[Recalled | None] = [None] * len(asks)
        remembering = [i for i, ask in enumerate(asks) if ask.remember]
        if self.memory is not None and remembering:
            near = self.memory.near(np.stack([queries[i] for i in remembering]))
            for i, own in zip(remembering, near, strict=True):
                cosines = partial(self.cosines, queries[i])
                found[i] = recall(rankings[i], own, cosines, partial(self._sees, asks[i].namespaces))
        return found

    def _sees(self, namespaces: tuple[str, ...] | None, tool_id: str) -> bool:
        return tool_id in self.rows and (namespaces is None or self.entries[tool_id].tool.namespace in namespaces)

    def _dense(self, asks: Sequence[Ask], vectors: Vectors) -> list[Ranking]:
        found: list[Ranking] = [[] for _ in asks]
        open_ones = [i for i, ask in enumerate(asks) if ask.namespaces is None]
        if open_ones:
            deepest = max(_depth(asks[i]) for i in open_ones)
            ids, cosines = self.dense.search(vectors[open_ones], deepest)
            for i, row, scores in zip(open_ones, ids, cosines, strict=True):
                found[i] = [(t, float(s)) for t, s in zip(row, scores[: len(row)], strict=True)][: _depth(asks[i])]
        for i, ask in enumerate(asks):
            if ask.namespaces is not None:
                among = [self.by_namespace[n] for n in ask.namespaces if n in self.by_namespace]
                rows = np.concatenate(among) if among else np.zeros(0, dtype=np.int64)
                found[i] = self.dense.search_among(vectors[i], rows, _depth(ask))
        return found

    def _words(self, ask: Ask) -> dict[str, float]:
        visible = None if ask.namespaces is None else set(ask.namespaces)
        found = self.lexical().search([ask.query], WORD_DEPTH if visible is None else len(self.entries))[0]
        known = [(t, s) for t, s in found if t in self.entries]
        return {t: s for t, s in known if visible is None or self.entries[t].tool.namespace in visible}

    def _join(self, ask: Ask, ranking: Ranking, words: Mapping[str, float]) -> Ranking:
        if not ask.hybrid:
            return ranking[: ask.k]
        both = [[t for t, _ in ranking], list(words)[:WORD_DEPTH]]
        return reciprocal_rank(both)[: ask.k]


def _depth(ask: Ask) -> int:
    return max(ask.k, WORD_DEPTH) if ask.hybrid else ask.k


@lru_cache(maxsize=1 << 18)
def plain_name(text: str) -> str:
    """A name without case, spaces and marks: "S3: Create Bucket", "s3.CreateBucket" and "create_bucket" part by part."""
    return "".join(word.lower() for word in identifier_words(text))
