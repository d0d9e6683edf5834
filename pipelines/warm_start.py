"""Training rows from a corpus: for the encoder's warm start, for its units, and for the rewriter's warm start. Pure.

Invariants: only queries of the train split become rows; an equal corpus and seed give equal rows. Kinds are weighed, not counted:
the vague queries are few beside the catalog's own sentences and teach most.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from actors.core.batches import EncoderRow
from actors.core.prompts import query_prompt, query_target
from actors.core.replay import Example, query_of
from actors.core.types import CATALOG_KINDS, LABELLED_KINDS, LOG_KIND, Catalog, Corpus, Query
from configs.schema import EncoderConfig

KIND_WEIGHTS: dict[str, float] = {"vague": 40, "standard": 8, "symptom": 6, "sentence": 8, "example": 2, "log": 40, "replay": 40}
"""Rows of each kind among 64 of the warm start."""
REPLAY_KIND = "replay"
"""The group of what users found in earlier units."""
REWRITE = "rewrite:"
"""Prefix of the groups that hold rewrites; what follows is the query's kind."""

Target = Callable[[str], str]
"""Tool id -> the text that the rewriter shall write."""
Prompt = Callable[[str, Sequence[str]], str]
"""(query, titles of tools as context) -> the rewriter's prompt."""


@dataclass(frozen=True, slots=True)
class SftRow:
    """What the rewriter is asked, and what it shall answer."""

    prompt: str
    target: str


def fresh_queries(corpus: Corpus, warm_start_share: float) -> list[Query]:
    """Labelled training queries that the encoder's warm start leaves out: all that the rewriter learns from.

    To the warm-started encoder they are as new as a user's query, so its first tools, which prompts carry, are right as often as in
    serving; of a query it trained on, the right tool stands first and the rewriter would learn to copy it. A need's wordings stay
    together. Where the share leaves out nothing, these are all labelled queries.
    """
    labelled = corpus.select("train", LABELLED_KINDS)
    needs = sorted({_need(q) for q in labelled}, key=lambda need: hashlib.sha256(f"fresh {need}".encode()).digest())
    left_out = set(needs[round(warm_start_share * len(needs)) :])
    return [q for q in labelled if _need(q) in left_out] or labelled


def _need(query: Query) -> str:
    return query.need or query.query_id


def encoder_warm_start(corpus: Corpus, share: float) -> tuple[list[EncoderRow], dict[str, float]]:
    """A row for each gold tool of each training query that is not fresh, and the share of each kind in a batch.

    Where no labelled query is left, the fresh ones are taken too.
    """
    fresh = {q.query_id for q in fresh_queries(corpus, share)}
    labelled = corpus.select("train", LABELLED_KINDS)
    queries = [q for q in labelled if q.query_id not in fresh] or labelled
    queries += corpus.select("train", CATALOG_KINDS)
    rows = [row for query in queries for row in _rows(query, query.text, query.kind, corpus.catalog)]
    return rows, _shares({row.group for row in rows}, 1.0)


def encoder_unit(
    corpus: Corpus,
    rewrites: Sequence[tuple[str, str]],
    negatives: Mapping[str, Sequence[str]],
    config: EncoderConfig,
    log: Sequence[Example] = (),
    log_share: float = 0.0,
    replay: Sequence[Example] = (),
) -> tuple[list[EncoderRow], dict[str, float]]:
    """Rows of a unit: all labelled queries, the unit's ``rewrites`` (query id, text), the catalog's own text; the config's shares.

    Shares of queries and catalog sum to 1; that of the rewrites comes on top, so that an encoder without a rewriter sees as much of
    all else, and is no more than what draws each of them once: drawn again and again, the tools of a unit's few queries crowd out
    all others (docs/experiments.md, 17). ``log`` are the unit's examples from users, ``replay`` those of earlier units, each as
    often as it weighs (``replay.copies``); together they take ``log_share`` of what the labelled queries would have, half of it
    each: a few new queries alone would be learned by heart, away from other wordings of the same need. Beside them the labelled
    kinds have equal shares. Rewrites that are empty, or only repeat their query or one another, are left out. ``negatives`` maps
    query ids to hard wrong tools.
    """
    by_id = {query.query_id: query for query in [*corpus.queries, *map(query_of, log)]}
    labelled = corpus.select("train", LABELLED_KINDS)
    rows = [row for q in labelled for row in _rows(q, q.text, q.kind, corpus.catalog, negatives.get(q.query_id, ()))]
    rows += [row for example in log for row in _found_rows(example, LOG_KIND, corpus.catalog, negatives)]
    rows += [row for example in replay for row in _found_rows(example, REPLAY_KIND, corpus.catalog, negatives)]
    distinct = {(query_id, " ".join(text.split()).lower()): text for query_id, text in rewrites}
    used = 0
    for (query_id, plain), text in distinct.items():
        query = by_id[query_id]
        if plain and plain != " ".join(query.text.split()).lower():
            used += 1
            rows += _rows(query, text, REWRITE + query.kind, corpus.catalog, negatives.get(query_id, ()))
    rows += [row for q in corpus.select("train", CATALOG_KINDS) for row in _rows(q, q.text, q.kind, corpus.catalog)]
    groups = {row.group for row in rows}
    written = {g for g in groups if g.startswith(REWRITE)}
    users = 1.0 - config.catalog_share
    found = groups & {LOG_KIND, REPLAY_KIND}
    of_log = log_share * users if found else 0.0
    kinds = groups & set(LABELLED_KINDS)
    of_rewrites = min(config.rewrite_share, used / (config.steps_per_unit * config.pairs_per_step))
    shares = _shares(written, of_rewrites) | _shares(groups & set(CATALOG_KINDS), config.catalog_share)
    shares |= _shares(found, of_log)
    if found:
        # Users ask vaguely: by the weights a batch would hold two standard queries, and what tells near operations apart is lost.
        return rows, shares | dict.fromkeys(sorted(kinds), (users - of_log) / max(1, len(kinds)))
    return rows, shares | _shares(kinds, users)


def sft_queries(corpus: Corpus, warm_start_share: float, count: int, seed: int) -> list[Query]:
    """The queries of ``count`` SFT rows, in training order: kinds by weight, each query once before any comes again."""
    pools = [*fresh_queries(corpus, warm_start_share), *corpus.select("train", CATALOG_KINDS)]
    by_kind = {kind: [q for q in pools if q.kind == kind] for kind in KIND_WEIGHTS}
    weights = {kind: weight for kind, weight in KIND_WEIGHTS.items() if by_kind[kind]}
    rng = random.Random(seed)
    drawn: list[Query] = []
    # Cumulative rounding: the counts sum to ``count`` exactly.
    passed, total = 0.0, sum(weights.values())
    for kind, weight in weights.items():
        wanted = round(count * (passed + weight) / total) - round(count * passed / total)
        passed += weight
        pool = by_kind[kind]
        while wanted > 0:
            drawn += rng.sample(pool, min(wanted, len(pool)))
            wanted -= len(pool)
    rng.shuffle(drawn)
    return drawn


def turned_rows(corpus: Corpus, count: int, seed: int) -> list[SftRow]:
    """``count`` rows from the entry of a gold tool to a labelled training query, each query once before any comes again.

    Raises ValueError where there is no such query.
    """
    labelled, rng = corpus.select("train", LABELLED_KINDS), random.Random(seed)
    if not labelled:
        raise ValueError("no labelled training queries to turn round")
    drawn: list[Query] = []
    while len(drawn) < count:
        drawn += rng.sample(labelled, min(count - len(drawn), len(labelled)))
    return [SftRow(query_prompt(corpus.catalog.by_id[rng.choice(sorted(q.gold))]), query_target(q.text)) for q in drawn]


def sft_rows(queries: Sequence[Query], contexts: Mapping[str, Sequence[str]], prompt: Prompt, target: Target) -> list[SftRow]:
    """A row for each query, its target the entry of the best gold tool.

    ``contexts`` maps query ids to the titles that the prompt carries. They must come from a retriever that did not train on the
    query, else the gold tool stands first in training and does not in serving.
    """
    return [SftRow(prompt(q.text, contexts.get(q.query_id, ())), target(max(q.gold, key=lambda t: q.gold[t]))) for q in queries]


def _rows(query: Query, anchor: str, group: str, catalog: Catalog, negatives: Sequence[str] = ()) -> list[EncoderRow]:
    gold = tuple(query.gold)
    return [EncoderRow(anchor, tool_id, gold, group, tuple(negatives)) for tool_id in gold if tool_id in catalog.by_id]


def _found_rows(example: Example, group: str, catalog: Catalog, negatives: Mapping[str, Sequence[str]]) -> list[EncoderRow]:
    wrong = (*example.wrong, *negatives.get(example.example_id, ()))
    return [
        EncoderRow(example.query, tool_id, example.right, group, wrong) for tool_id in example.right if tool_id in catalog.by_id
    ]


def _shares(groups: set[str], share: float) -> dict[str, float]:
    """``share`` divided among groups by the weights of their kinds."""
    weights = {group: KIND_WEIGHTS[group.removeprefix(REWRITE)] for group in sorted(groups)}
    return {group: share * weight / sum(weights.values()) for group, weight in weights.items()}
