"""Text tools of the catalog sources: HTML to plain text, stems, near-copies.

Invariants: pure functions; plain text holds one paragraph a line, no markup, single spaces.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from html.parser import HTMLParser

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

NEAR_COPY = 0.6
"""Two texts whose content stems overlap (Jaccard) by more than this count as the same."""

_BLOCKS = frozenset({"p", "li", "dt", "dd", "ul", "ol", "dl", "div", "pre", "br", "h1", "h2", "h3", "h4", "tr", "td", "th"})
_ASIDES = frozenset({"note", "important", "caution", "warning", "tip"})
_DROPPED = frozenset({"fullname", "title", "script", "style"})
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_STOP = frozenset(STOPWORDS_EN) | {
    "you",
    "your",
    "can",
    "from",
    "when",
    "which",
    "what",
    "how",
    "we",
    "our",
    "i",
    "my",
    "me",
    "do",
    "does",
}
_stemmer = Stemmer.Stemmer("english")


class _Plain(HTMLParser):
    """Collects paragraphs; what stands in a note goes behind the rest, since it seldom says what the operation does."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.main: list[list[str]] = [[]]
        self.asides: list[list[str]] = [[]]
        self.aside_depth = 0
        self.dropped_depth = 0

    def _break(self) -> None:
        (self.asides if self.aside_depth else self.main).append([])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _ASIDES:
            self.aside_depth += 1
        if tag in _DROPPED:
            self.dropped_depth += 1
        if tag in _BLOCKS or tag in _ASIDES:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS or tag in _ASIDES:
            self._break()
        if tag in _ASIDES:
            self.aside_depth = max(0, self.aside_depth - 1)
        if tag in _DROPPED:
            self.dropped_depth = max(0, self.dropped_depth - 1)

    def handle_data(self, data: str) -> None:
        if not self.dropped_depth:
            (self.asides if self.aside_depth else self.main)[-1].append(data)


def strip_html(markup: str) -> str:
    """Plain text of ``markup``: a paragraph a line, entities resolved, notes and warnings after the rest."""
    if "<" not in markup and "&" not in markup:
        return " ".join(markup.split())
    parser = _Plain()
    parser.feed(markup)
    parser.close()
    lines = (" ".join("".join(parts).split()) for parts in parser.main + parser.asides)
    return "\n".join(re.sub(r"\s+([.,;:)])", r"\1", line) for line in lines if line)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    stem: str = _stemmer.stemWord(word)
    return stem


def content_stems(text: str) -> frozenset[str]:
    """Stems of the words that are not stop words, lower case."""
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP)


def overlap(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard overlap of two stem sets; 0 where both are empty."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0


class NearCopies:
    """Finds texts whose stems overlap one of the added texts by more than ``threshold``.

    Only the rarer stems of a text are looked up: a text that shares none of the ``n - ceil(threshold * n) + 1`` rarest cannot
    overlap enough (prefix filtering, Chaudhuri et al. 2006), so that ten thousand texts take a second.
    ``frequency`` only orders the stems: the answer is exact whatever it holds, as long as it does not change.
    """

    def __init__(self, frequency: Counter[str], threshold: float = NEAR_COPY) -> None:
        """``frequency``: in how many texts each stem stands (``stem_frequency``)."""
        self.frequency, self.threshold = frequency, threshold
        self.texts: list[frozenset[str]] = []
        self.postings: dict[str, list[int]] = defaultdict(list)

    def _prefix(self, stems: frozenset[str]) -> list[str]:
        ordered = sorted(stems, key=lambda stem: (self.frequency[stem], stem))
        needed = int(self.threshold * len(ordered))
        return ordered[: len(ordered) - needed]

    def add(self, stems: frozenset[str]) -> None:
        """Remember a text."""
        for stem in self._prefix(stems):
            self.postings[stem].append(len(self.texts))
        self.texts.append(stems)

    def matches(self, stems: frozenset[str]) -> list[int]:
        """Numbers (in the order of adding) of the near-copies of a text, ascending."""
        candidates = {number for stem in self._prefix(stems) for number in self.postings.get(stem, ())}
        return sorted(number for number in candidates if overlap(stems, self.texts[number]) > self.threshold)


def stem_frequency(texts: Iterable[frozenset[str]]) -> Counter[str]:
    """In how many texts each stem stands."""
    counts: Counter[str] = Counter()
    for stems in texts:
        counts.update(stems)
    return counts
