"""Prequential quality on a simulated log: each query is judged by what served it, before anybody learned from it.

The served releases are held against three alternatives that see the same queries and outcomes in the same order, all of them on the
encoder that the run started from: it alone (static); a linear head on its query vectors, trained by InfoNCE on the outcomes; tool
vectors moved by outcomes (online optimised tool embeddings, arXiv 2509.20415). They learn from an outcome at once, where the run
waits for the join window: the comparison leans to their side.

Invariants: no figure of a query is made by anything that learned from its outcome; whatever the cheating client writes, all of them
read; only queries that served releases answered are counted.

    python -m pipelines.prequential RUN_DIR
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from actors.core.events import EventError, OutcomeEvent, SearchEvent, parse
from actors.core.fusion import Vectors
from actors.core.ranking import ndcg, paired_test
from actors.core.types import Corpus, InputError, Query
from pipelines import catalogs, report
from pipelines.arms import write_json
from pipelines.command_line import run_app
from pipelines.evaluate import load_retriever
from pipelines.run_dirs import open_release
from pipelines.simulate import RECORD

K = 5
HEAD_RATES, HEAD_BATCH, HEAD_STEPS, HEAD_SCALE = (0.1, 0.3, 1.0, 3.0), 32, 4, 20.0
"""The linear head: learning rates tried, outcomes a step, steps after each full batch (on replayed outcomes), InfoNCE's scale."""
TOOL_RATES = (0.1, 0.3, 1.0, 2.0)
"""How far an outcome moves a tool's vector towards, or a failure away from, the query's; all are tried."""
WINDOW, POINTS = 200, 150
"""Queries in the mean of a curve's point, and points of a curve, at most."""
RESULT = "prequential.json"
LAST = 1 / 3
"""Part of the stream, at its end, that the verdict is about."""


@dataclass(frozen=True, slots=True)
class Step:
    """A query of the stream, what served it, and what came of it (tool id -> succeeded or not)."""

    request_id: str
    query: str
    record: dict[str, Any] | None
    outcomes: dict[str, bool]


class Learner(Protocol):
    """An alternative: ranks, then learns."""

    def scores(self, query: Vectors) -> Vectors:
        """Scores of all tools for a query vector, [n]."""

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Take in outcomes by tool row."""


class Static:
    """The encoder that the run started from."""

    def __init__(self, tools: Vectors) -> None:
        """``tools``: vectors of length 1, [n, d]."""
        self._tools = tools

    def scores(self, query: Vectors) -> Vectors:
        """As ``Learner``."""
        return self._tools @ query

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Nothing."""


class Head:
    """A linear map of query vectors, from the identity, by SGD on InfoNCE over all tools."""

    def __init__(self, tools: Vectors, rate: float, seed: int) -> None:
        """``tools`` as for ``Static``."""
        self._tools, self._rate, self._map = tools, rate, np.eye(tools.shape[1], dtype=np.float32)
        self._rng = np.random.default_rng(seed)
        self._seen: list[tuple[Vectors, int]] = []

    def scores(self, query: Vectors) -> Vectors:
        """As ``Learner``."""
        return self._tools @ (self._map @ query)

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Keep successes; train once a batch of new ones is there."""
        for row, succeeded in outcomes.items():
            if succeeded:
                self._seen.append((query, row))
                if len(self._seen) % HEAD_BATCH == 0:
                    self._train()

    def _train(self) -> None:
        for _ in range(HEAD_STEPS):
            chosen = self._rng.choice(len(self._seen), size=min(HEAD_BATCH, len(self._seen)), replace=False)
            queries = np.stack([self._seen[i][0] for i in chosen])
            logits = HEAD_SCALE * (queries @ self._map.T) @ self._tools.T
            chances = np.exp(logits - logits.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            chances[np.arange(len(chosen)), [self._seen[i][1] for i in chosen]] -= 1.0
            gradient = HEAD_SCALE * (chances @ self._tools).T @ queries / len(chosen)
            self._map -= (self._rate / HEAD_SCALE * gradient).astype(np.float32)


class MovedTools:
    """Tool vectors that move towards the queries they succeeded for and away from those they failed for."""

    def __init__(self, tools: Vectors, rate: float) -> None:
        """``tools`` as for ``Static``; they are copied."""
        self._tools, self._rate = tools.copy(), rate

    def scores(self, query: Vectors) -> Vectors:
        """As ``Learner``."""
        return self._tools @ query

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Move."""
        for row, succeeded in outcomes.items():
            moved = self._tools[row] + (self._rate if succeeded else -self._rate) * query
            self._tools[row] = moved / np.linalg.norm(moved)


def read_steps(log_dir: Path, record_file: Path) -> list[Step]:
    """The stream in its order: the log's searches with their outcomes, each with the onlooker's record where it has one."""
    records = {r["request_id"]: r for r in map(json.loads, record_file.read_text(encoding="utf-8").splitlines())}
    searches: dict[str, SearchEvent] = {}
    outcomes: dict[str, dict[str, bool]] = {}
    for line in _lines(log_dir):
        try:
            event = parse(line)
        except EventError:
            continue
        if isinstance(event, SearchEvent):
            searches[event.request_id] = event
        elif isinstance(event, OutcomeEvent) and event.result != "called":
            outcomes.setdefault(event.request_id, {})[event.tool_id] = event.result == "succeeded"
    ordered = sorted(searches.values(), key=lambda search: search.time)
    return [Step(s.request_id, s.query, records.get(s.request_id), outcomes.get(s.request_id, {})) for s in ordered]


def _lines(log_dir: Path) -> Iterable[bytes]:
    for path in sorted(log_dir.glob("*.jsonl")):
        yield from path.read_bytes().splitlines()


def replay(
    steps: Sequence[Step], queries: dict[str, Query], vectors: dict[str, Vectors], tool_ids: Sequence[str], learner: Learner
) -> list[float]:
    """nDCG@5 of each recorded step by ``learner``, which learns of each step after it was judged."""
    row_of = {tool_id: row for row, tool_id in enumerate(tool_ids)}
    figures = []
    for step in steps:
        vector = vectors[step.query]
        if step.record is not None:
            scores = learner.scores(vector)
            best = np.argpartition(-scores, K)[:K]
            ranked = [tool_ids[row] for row in best[np.argsort(-scores[best])]]
            figures.append(ndcg(ranked, queries[step.record["query_id"]].gold, K))
        learner.learn(vector, {row_of[t]: good for t, good in step.outcomes.items() if t in row_of})
    return figures


def compare(
    steps: Sequence[Step], corpus: Corpus, vectors: dict[str, Vectors], tool_ids: Sequence[str], tools: Vectors, seed: int
) -> dict[str, list[float]]:
    """Arm -> nDCG@5 of each recorded query, in stream order; the arms are "served", "static", "head", "moved tools".

    Of the rates of an alternative the one with the best mean is taken: chosen on this very stream, to its advantage.
    """
    queries = {q.query_id: q for q in corpus.select("stream")}
    tried: dict[str, list[Learner]] = {
        "static": [Static(tools)],
        "head": [Head(tools, rate, seed) for rate in HEAD_RATES],
        "moved tools": [MovedTools(tools, rate) for rate in TOOL_RATES],
    }
    found = {"served": [float(s.record["nDCG@5"]) for s in steps if s.record is not None]}
    for name, learners in tried.items():
        found[name] = max((replay(steps, queries, vectors, tool_ids, learner) for learner in learners), key=sum)
    return found


def verdicts(figures: dict[str, list[float]], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Rows {slice, against, n, served, rival, difference, p_value} over the last third of the stream."""
    start = round(len(kinds) * (1 - LAST))
    rows = []
    for kind in ("all", "standard", "vague"):
        places = [i for i in range(start, len(kinds)) if kind in ("all", kinds[i])]
        if not places:
            continue
        ours = [figures["served"][i] for i in places]
        for rival in (name for name in figures if name != "served"):
            theirs = [figures[rival][i] for i in places]
            difference, p_value = paired_test(ours, theirs)
            means = {"served": float(np.mean(ours)), "rival": float(np.mean(theirs))}
            rows.append({"slice": kind, "against": rival, "n": len(places), **means, "difference": difference, "p_value": p_value})
    return rows


def curves(figures: dict[str, list[float]], kinds: Sequence[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Slice -> arm -> (queries so far, mean of the last ``WINDOW`` figures of the slice)."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for kind in ("all", "standard", "vague"):
        places = [i for i in range(len(kinds)) if kind in ("all", kinds[i])]
        width = min(WINDOW, len(places))
        if width == 0:
            continue
        found[kind] = {}
        for arm, values in figures.items():
            sums = np.concatenate([[0.0], np.cumsum([values[i] for i in places])])
            means = (sums[width:] - sums[:-width]) / width
            steps = range(0, len(means), max(1, len(means) // POINTS))
            found[kind][arm] = [(places[i + width - 1] + 1, float(means[i])) for i in steps]
    return found


def measure(run_dir: Path) -> dict[str, Any]:
    """Everything the report shows of a stream. Raises InputError for a run without a simulated log."""
    release = open_release(f"{run_dir}@0", "RUN_DIR")
    record = run_dir / RECORD
    if not record.is_file():
        raise InputError(f"RUN_DIR={run_dir}: no {RECORD}; the prequential comparison is for a simulated log (cohyde simulate)")
    config = release.config
    corpus = catalogs.load(config.catalog, config.seed)
    steps = read_steps(Path(config.stream.address), record)
    seen = [step.record for step in steps if step.record is not None]
    retriever = load_retriever(release, corpus.catalog, None, lambda what: lambda done, total: None)
    texts = list(dict.fromkeys(step.query for step in steps))
    vectors = dict(zip(texts, retriever.vectors(texts), strict=True))
    figures = compare(steps, corpus, vectors, retriever.dense.tool_ids, retriever.dense.vectors, config.seed)
    kinds = [str(r["kind"]) for r in seen]
    changes = [(i + 1, str(r["release"])) for i, r in enumerate(seen) if i == 0 or seen[i - 1]["release"] != r["release"]]
    return {
        "queries": len(seen),
        "window": WINDOW,
        "curves": curves(figures, kinds),
        "verdicts": verdicts(figures, kinds),
        "releases": changes,
    }


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(run_dir: Annotated[Path, typer.Argument(help="The run directory of a continual run on a simulated log.")]) -> None:
    """Hold what was served over a simulated log against three alternatives; writes prequential.json and the report."""
    found = measure(run_dir)
    write_json(run_dir / RESULT, found)
    shown = Table(box=box.SIMPLE_HEAD, title=f"last third of {found['queries']} queries, nDCG@5 (%)")
    for name in ("slice", "against", "n", "served", "rival", "difference", "p"):
        shown.add_column(name, justify="left" if name in ("slice", "against") else "right")
    for row in found["verdicts"]:
        values = [f"{100 * row[name]:.1f}" for name in ("served", "rival", "difference")]
        shown.add_row(row["slice"], row["against"], str(row["n"]), *values, f"{row['p_value']:.3f}")
    console = Console()
    console.print(shown)
    console.print(f"Report: {report.write(run_dir)}", highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.prequential", arguments)


if __name__ == "__main__":
    sys.exit(main())
