"""Searching the catalog by words (BM25).

Invariants: rankings are best first and list only tools that share a word with the query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")

Ranking = list[tuple[str, float]]
"""(tool id, score), best first."""


class LexicalIndex:
    """BM25 (bm25s, k1 1.5, b 0.75) with English stop words and stemmer; identifiers are split into their words."""

    def __init__(self, tool_ids: Sequence[str], documents: Sequence[str]) -> None:
        """Index ``documents`` under ``tool_ids``."""
        import bm25s
        import Stemmer

        self.tool_ids = list(tool_ids)
        self._stemmer = Stemmer.Stemmer("english")
        self._bm25 = bm25s.BM25(k1=1.5, b=0.75)
        tokens = self._tokens(documents)
        # bm25s cannot index nothing.
        self._empty = not any(tokens)
        if not self._empty:
            self._bm25.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """Up to ``k`` tools with a positive score for each query, best first."""
        k = min(k, len(self.tool_ids))
        if not queries or not k or self._empty:
            return [[] for _ in queries]
        rows, scores = self._bm25.retrieve(self._tokens(queries), k=k, show_progress=False)
        return [
            [(self.tool_ids[i], float(score)) for i, score in zip(row, values, strict=True) if score > 0]
            for row, values in zip(rows, scores, strict=True)
        ]

    def _tokens(self, texts: Sequence[str]) -> Any:
        import bm25s

        split = [_CAMEL.sub(" ", text) for text in texts]
        return bm25s.tokenize(split, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False)
