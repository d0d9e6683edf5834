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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from actors.core.events import EventError, OutcomeEvent, SearchEvent, parse
from actors.core.fusion import Vectors
from actors.core.ranking import ndcg, paired_test
from actors.core.types import Corpus, InputError, Query
from actors.run_dir import open_release
from pipelines import catalogs, report
from pipelines.alternatives import HEAD_RATES, TOOL_RATES, Head, Learner, MovedTools, Static
from pipelines.click_model import CHEAT
from pipelines.command_line import run_app
from pipelines.evaluate import load_retriever
from pipelines.files import write_json
from pipelines.reporting import stream_picture
from pipelines.reporting.figures import memory_points
from pipelines.simulate import RECORD

K = 5
WINDOW, POINTS = 200, 150
"""Queries in the mean of a curve's point, and points of a curve, at most; a slice of few queries has shorter means."""
RESULT, PICTURE = "prequential.json", "prequential.png"
LAST = 1 / 3
"""Part of the stream, at its end, that the verdict is about."""


@dataclass(frozen=True, slots=True)
class Step:
    """A query of the stream, what served it, what was shown, what came of it (tool id -> succeeded or not), and who asked."""

    request_id: str
    query: str
    record: dict[str, Any] | None
    outcomes: dict[str, bool]
    shown: tuple[str, ...] = ()
    tenant: str = ""


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
    return [
        Step(s.request_id, s.query, records.get(s.request_id), outcomes.get(s.request_id, {}), _shown(s), s.tenant) for s in ordered
    ]


def _shown(search: SearchEvent) -> tuple[str, ...]:
    return tuple(tool.tool_id for tool in sorted(search.tools, key=lambda tool: tool.rank))


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


def poisoning(steps: Sequence[Step], vectors: dict[str, Vectors], tool_ids: Sequence[str], tools: Vectors) -> dict[str, Any]:
    """What the cheating client reached: in how many of the last third's answers the tool that it pushed stands among the first
    ``K``, served and by the static encoder, with a paired test. Empty where nobody cheated.
    """
    lies = [tool_id for step in steps if step.tenant == CHEAT for tool_id in step.outcomes]
    asked = [step for step in steps if step.record is not None]
    asked = asked[round(len(asked) * (1 - LAST)) :]
    if not lies or not asked:
        return {}
    target = lies[0]
    static = Static(tools)
    rows = [np.argpartition(-static.scores(vectors[step.query]), K)[:K] for step in asked]
    without = [float(target in {tool_ids[row] for row in best}) for best in rows]
    served = [float(target in step.shown[:K]) for step in asked]
    _, p_value = paired_test(served, without)
    shares = {"served": float(np.mean(served)), "static": float(np.mean(without))}
    return {"tool_id": target, "lies": len(lies), "n": len(asked), **shares, "p_value": p_value}


def window(count: int) -> int:
    """Figures in the mean of a curve's point, for a slice of ``count`` queries."""
    return min(WINDOW, max(1, round(count * LAST)))


def curves(figures: dict[str, list[float]], kinds: Sequence[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Slice -> arm -> (queries so far, mean of the slice's last ``window`` figures)."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for kind in ("all", "standard", "vague"):
        places = [i for i in range(len(kinds)) if kind in ("all", kinds[i])]
        if not places:
            continue
        width = window(len(places))
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
    retriever = load_retriever(release, corpus.catalog, lambda what: lambda done, total: None)
    texts = list(dict.fromkeys(step.query for step in steps))
    vectors = dict(zip(texts, retriever.vectors(texts), strict=True))
    figures = compare(steps, corpus, vectors, retriever.dense.tool_ids, retriever.dense.vectors, config.seed)
    kinds = [str(r["kind"]) for r in seen]
    reached = poisoning(steps, vectors, retriever.dense.tool_ids, retriever.dense.vectors)
    changes = [(i + 1, str(r["release"])) for i, r in enumerate(seen) if i == 0 or seen[i - 1]["release"] != r["release"]]
    by_slice = curves(figures, kinds)
    return {
        "queries": len(seen),
        "window": {name: window(len(kinds) if name == "all" else kinds.count(name)) for name in by_slice},
        "curves": by_slice,
        "verdicts": verdicts(figures, kinds),
        "releases": changes,
        "poisoning": reached,
        "poisoning_said": poison_line(reached),
    }


def poison_line(found: Mapping[str, Any]) -> str:
    """``poisoning`` in words."""
    if not found:
        return "Nobody cheated."
    claim = f"The cheating client claimed {found['lies']} times that {found['tool_id']} succeeded: it is among the first {K} in"
    shares = f"{100 * found['served']:.1f} % of the last {found['n']} answers (static encoder: {100 * found['static']:.1f} %"
    return f"{claim} {shares}, p {found['p_value']:.2f})."


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(run_dir: Annotated[Path, typer.Argument(help="The run directory of a continual run on a simulated log.")]) -> None:
    """Hold what was served over a simulated log against three alternatives; writes prequential.json, prequential.png and the
    report.
    """
    found = measure(run_dir)
    write_json(run_dir / RESULT, found)
    memory = [(minute, event["gb"]) for minute, event in memory_points(report.read(run_dir).events)]
    stream_picture.write(found, memory, run_dir / PICTURE)
    shown = Table(box=box.SIMPLE_HEAD, title=f"last third of {found['queries']} queries, nDCG@5 (%)")
    for name in ("slice", "against", "n", "served", "rival", "difference", "p"):
        shown.add_column(name, justify="left" if name in ("slice", "against") else "right")
    for row in found["verdicts"]:
        values = [f"{100 * row[name]:.1f}" for name in ("served", "rival", "difference")]
        shown.add_row(row["slice"], row["against"], str(row["n"]), *values, f"{row['p_value']:.3f}")
    console = Console()
    console.print(shown)
    console.print(found["poisoning_said"], highlight=False, soft_wrap=True)
    console.print(f"Report: {report.write(run_dir)}", highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.prequential", arguments)


if __name__ == "__main__":
    sys.exit(main())
