"""Words and sentences of a catalog's texts.

Invariants: pure functions of plain text (a paragraph a line); nothing is lower-cased or dropped.
"""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(
    r"OAuth\d?|IPv[46]|GraphQL|OpenID|[A-Z]{2,}s(?![a-z])|[A-Z]{1,3}\d+(?![a-z\d])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|Inc|No|approx)|\b[A-Z])\.$")


def identifier_words(name: str) -> list[str]:
    """Words of a CamelCase or snake_case name: ``DescribeDBInstances`` -> ``["Describe", "DB", "Instances"]``."""
    return _IDENTIFIER.findall(name)


def sentences(text: str) -> list[str]:
    """Sentences in order; a line break always ends one."""
    found: list[str] = []
    for line in text.split("\n"):
        carry = ""
        for piece in _SENTENCE_END.split(line):
            carry = f"{carry} {piece}" if carry else piece
            if not _ABBREVIATION.search(carry):
                found.append(carry)
                carry = ""
        if carry:
            found.append(carry)
    return [sentence for sentence in (s.strip() for s in found) if sentence]
