"""The reward of one rewrite: NDCG of the ranking it gives, a margin that breaks ties, a penalty.

Invariants: pure; the ranking given here no longer holds tools that are equivalent to a gold tool without being gold, so they can
neither help nor hurt; the penalty is taken once, however many reasons there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from actors.core.ranking import ndcg
from actors.core.types import Completion, Score
from configs.schema import RetrievalConfig


def score_rewrite(
    completion: Completion,
    query: str,
    ranked: Sequence[str],
    gold: Mapping[str, int],
    margin: float,
    config: RetrievalConfig,
) -> Score:
    """Reward and its parts. ``ranked``: ``reward_k`` or more tool ids, best first; ``margin``: best gold - best wrong cosine."""
    quality = ndcg(ranked, gold, config.reward_k)
    penalty = config.penalty if is_degenerate(completion, query) else 0.0
    return Score(reward=quality + config.margin_weight * margin - penalty, ndcg=quality, margin=margin, penalty=penalty)


def is_degenerate(completion: Completion, query: str) -> bool:
    """Whether the text is empty, only repeats the query (case and punctuation aside) or was cut at the token limit."""
    words = _words(completion.text)
    return not words or words == _words(query) or not completion.finished


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
