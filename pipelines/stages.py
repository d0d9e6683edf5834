"""What the stages of the loop do to a batch: pure functions from Arrow tables to Arrow tables. Imports no ray.

Invariants: a block holds all rows of its queries; queries stand in the unit's order, a query's rows in that of its samples; every
row carries the versions that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.core.preferences import make_pairs
from actors.core.types import PAIRS, REWRITES, SCORED, Completion, Query, Score, Unit
from configs.schema import RewriterConfig

QUERIES = pa.schema([("position", pa.int64()), ("query_id", pa.string()), ("query", pa.string())])
"""Input of ``generate``: a query and its place in the unit."""


def query_blocks(unit: Unit, queries: Mapping[str, Query], queries_per_block: int) -> list[pa.Table]:
    """The unit's queries as blocks of schema ``QUERIES``."""
    rows = [{"position": i, "query_id": q, "query": queries[q].text} for i, q in enumerate(unit.query_ids)]
    return [
        pa.Table.from_pylist(rows[start : start + queries_per_block], schema=QUERIES)
        for start in range(0, len(rows), queries_per_block)
    ]


def rewrite_rows(
    unit: Unit,
    block: pa.Table,
    prompts: Sequence[str],
    completions: Sequence[Sequence[Completion]],
    rewriter_version: int,
    context_version: int | None,
) -> pa.Table:
    """Schema ``REWRITES``: one row for each completion of each query of ``block``; prompts and completions in its order."""
    rows = [
        {
            "unit": unit.index,
            "query_id": query_id,
            "query": query,
            "sample": sample,
            "prompt": prompt,
            "text": completion.text,
            "token_count": completion.token_count,
            "finished": completion.finished,
            "rewriter_version": rewriter_version,
            "context_retriever_version": context_version,
        }
        for query_id, query, prompt, samples in zip(
            block["query_id"].to_pylist(), block["query"].to_pylist(), prompts, completions, strict=True
        )
        for sample, completion in enumerate(samples)
    ]
    return pa.Table.from_pylist(rows, schema=REWRITES)


def whole_query_blocks(rows: pa.Table, queries_per_block: int) -> list[pa.Table]:
    """``rows`` (sorted by query) cut where a query ends."""
    ids = rows["query_id"].to_pylist()
    starts = [i for i, query_id in enumerate(ids) if i == 0 or ids[i - 1] != query_id]
    cuts = [*starts[::queries_per_block], len(ids)]
    return [rows.slice(start, end - start) for start, end in pairwise(cuts)]


def completions_by_query(block: pa.Table) -> dict[str, list[Completion]]:
    """Query id -> its completions in sample order, from rows of schema ``REWRITES``."""
    found: dict[str, list[Completion]] = {}
    for row in block.select(["query_id", "text", "token_count", "finished"]).to_pylist():
        found.setdefault(row["query_id"], []).append(Completion(row["text"], row["token_count"], row["finished"]))
    return found


def score_rows(block: pa.Table, scores: Sequence[Sequence[Score]], retriever_version: int) -> pa.Table:
    """Schema ``SCORED``: the rows of ``block`` (``REWRITES``) with their scores, which stand by query and sample."""
    flat = [score for samples in scores for score in samples]
    if len(flat) != block.num_rows:
        raise ValueError(f"{len(flat)} scores for {block.num_rows} rewrites")
    columns = {name: [getattr(score, name) for score in flat] for name in ("reward", "ndcg", "margin", "penalty")}
    columns["retriever_version"] = [retriever_version] * len(flat)
    arrays = [pa.array(columns[name], SCORED.field(name).type) for name in columns]
    return pa.table([*block.columns, *arrays], schema=SCORED)


def pair_rows(scored: pa.Table, config: RewriterConfig, reference_version: int) -> pa.Table:
    """Schema ``PAIRS``: preference pairs from rows of schema ``SCORED``."""
    return pa.Table.from_pylist(make_pairs(scored.to_pylist(), config, reference_version), schema=PAIRS)


def only_version(rows: pa.Table, column: str) -> int:
    """The one version that made all rows. Raises ``ValueError`` where there is none or more than one."""
    versions: list[int] = pc.unique(rows[column]).to_pylist()
    if len(versions) != 1:
        raise ValueError(f"{column}: rows of one unit carry versions {sorted(versions)}; they must carry one")
    return versions[0]


def rewrite_metrics(rows: pa.Table) -> dict[str, Any]:
    """What a unit's rewrites were like: {rewriter_version, rewrites, tokens, cut_share, distinct_share}."""
    texts = list(zip(rows["query_id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    return {
        "rewriter_version": only_version(rows, "rewriter_version"),
        "rewrites": rows.num_rows,
        "tokens": pc.sum(rows["token_count"]).as_py(),
        "cut_share": 1.0 - pc.mean(rows["finished"].cast(pa.float64())).as_py(),
        "distinct_share": len(set(texts)) / len(texts),
    }


def score_metrics(scored: pa.Table, pairs: pa.Table) -> dict[str, Any]:
    """What a unit's scores and pairs were like: {retriever_version, pairs, mean rewards and the mean gap of the pairs}."""
    gaps = [
        chosen - rejected
        for chosen, rejected in zip(pairs["chosen_reward"].to_pylist(), pairs["rejected_reward"].to_pylist(), strict=True)
    ]
    return {
        "retriever_version": only_version(scored, "retriever_version"),
        "pairs": pairs.num_rows,
        "rewards_mean": pc.mean(scored["reward"]).as_py(),
        "ndcg_mean": pc.mean(scored["ndcg"]).as_py(),
        "penalty_share": sum(p > 0 for p in scored["penalty"].to_pylist()) / scored.num_rows,
        "reward_gap_mean": fmean(gaps) if gaps else None,
    }
