"""Personal data out of users' texts, before anything is stored: patterns and checksums of presidio, no language model.

Invariants: works offline (the list of top-level domains is the one that the library carries); what is found becomes ``<KIND>``;
equal texts give equal results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

SCORE = 0.4
"""Least confidence; a telephone number in its usual form has just this much."""


def redact(text: str) -> str:
    """``text`` with e-mail addresses, telephone, card and account numbers and IP addresses replaced by their kind."""
    found = [r for recogniser in _recognisers() for r in recogniser.analyze(text, recogniser.supported_entities, None)]
    # From the end, so that places stay right; of overlapping findings the surer one, then the longer one.
    kept: list[Any] = []
    for result in sorted(found, key=lambda r: (-r.score, r.start - r.end)):
        if result.score >= SCORE and all(result.end <= other.start or result.start >= other.end for other in kept):
            kept.append(result)
    for result in sorted(kept, key=lambda r: -r.start):
        text = f"{text[: result.start]}<{result.entity_type}>{text[result.end :]}"
    return text


@cache
def _recognisers() -> tuple[Any, ...]:
    import tldextract
    from presidio_analyzer import predefined_recognizers as known

    # Its default extractor asks the network for a newer list at the first address it meets.
    tldextract.extract = _offline(tldextract.TLDExtract(suffix_list_urls=()))  # type: ignore[assignment]
    kinds = (
        known.EmailRecognizer,
        known.PhoneRecognizer,
        known.CreditCardRecognizer,
        known.IbanRecognizer,
        known.IpRecognizer,
    )
    return tuple(kind() for kind in kinds)


def _offline(extractor: Any) -> Callable[..., Any]:
    def extract(url: str, *_: Any, **__: Any) -> Any:
        return extractor(url)

    return extract
