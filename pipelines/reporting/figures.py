"""From what a run recorded to the figures of its report.

Invariants: pure; a figure for which nothing was recorded is left out, never drawn empty; a stage run that a resumed run reports
again counts once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from pipelines.comparison.compare import COHYDE, LABELS, Row
from pipelines.reporting import plots

STAGES = ("generate", "train_encoder", "build_index", "score", "train_rewriter", "judge")
MODES = ("raw", "rewrite", "fused", "hybrid")
LONGEST_PAUSE_S = 120.0
"""A longer gap between two events is a run that stood still (stopped, resumed later): it counts as this long."""
ROLES_SHOWN = 5
"""Processes that the memory curve shows apart, the largest; six colours are what an eye tells apart."""

Event = Mapping[str, Any]
StageRuns = Mapping[tuple[str, str], Mapping[int, Event]]


@dataclass(frozen=True)
class Figure:
    """One figure of the page."""

    title: str
    svg: Markup
    wide: bool = False


def stages(events: Sequence[Event]) -> dict[tuple[str, str], dict[int, Event]]:
    """(arm, stage) -> unit -> its event, CoHyDE first.

    A unit that a resumed run reports again counts once, when it worked longest: finding what an earlier run wrote takes no time.
    """
    found: dict[tuple[str, str], dict[int, Event]] = defaultdict(dict)
    for event in events:
        if event["event"] == "stage":
            units = found[event["arm"], event["stage"]]
            units[event["unit"]] = max(units.get(event["unit"], event), event, key=lambda e: e["worked_s"])
    order = {stage: index for index, stage in enumerate(STAGES)}
    keys = sorted(found, key=lambda key: (key[0] != COHYDE, key[0], order.get(key[1], len(order))))
    return {key: dict(sorted(found[key].items())) for key in keys}


def _quality_points(events: Sequence[Event], rows: Sequence[Row]) -> tuple[str, dict[tuple[str, str, str], dict[float, float]]]:
    """Split shown, and (slice, tools, mode) -> round -> CoHyDE's nDCG@5 in percent; test where there is any, else dev."""
    found: dict[str, dict[tuple[str, str, str], dict[float, float]]] = {"test": defaultdict(dict), "dev": defaultdict(dict)}
    recorded = [e for e in events if e["event"] == "quality"]
    for record in [*recorded, *({"split": "test", **row} for row in rows)]:
        if record["arm"] == COHYDE and record["metric"] == "nDCG@5" and record["round"] is not None:
            found[record["split"]][record["slice"], record["tools"], record["mode"]][record["round"]] = 100 * record["value"]
    split = "test" if found["test"] else "dev"
    return split, found[split]


def quality_figures(events: Sequence[Event], rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of nDCG@5 by round: every slice by mode, then seen against unseen."""
    split, points = _quality_points(events, rows)
    modes = [m for m in MODES if any(key[2] == m for key in points)]
    colours = dict(zip(MODES, ("s1", "s4", "s2", "s3"), strict=True))
    level: dict[tuple[str, str, str], float] = {
        (r["slice"], r["tools"], r["arm"]): 100 * r["value"]
        for r in rows
        if r["metric"] == "nDCG@5" and r["mode"] == "raw" and r["arm"] in ("frozen", "encoder_alone")
    }
    level_colours = {"frozen": "muted", "encoder_alone": "fg"}
    figures = []
    for name in dict.fromkeys(key[0] for key in points):
        series = {m: list(points[name, "all", m].items()) for m in modes if (name, "all", m) in points}
        levels = {arm: (level[name, "all", arm], c) for arm, c in level_colours.items() if (name, "all", arm) in level}
        svg = plots.lines(series, colours, f"NDCG@5 on {name} queries by round", "round", "NDCG@5 (%)", levels)
        figures.append(Figure(f"{name}, all tools", Markup(svg)))
    main = "fused" if "fused" in modes else next(iter(modes), "")
    novelty = []
    for name in ("standard", "vague"):
        series = {t: list(points[name, t, main].items()) for t in ("seen", "unseen") if (name, t, main) in points}
        levels = {
            t: (level[name, t, "encoder_alone"], c)
            for t, c in (("seen", "s1"), ("unseen", "s2"))
            if (name, t, "encoder_alone") in level
        }
        if series:
            svg = plots.lines(series, {"seen": "s1", "unseen": "s2"}, f"{name}: seen and unseen", "round", "NDCG@5 (%)", levels)
            novelty.append(Figure(f"{name}, {main}", Markup(svg)))
    keys = [(m, colours[m], False) for m in modes] + [(LABELS[a] + ", raw", c, True) for a, c in level_colours.items() if level]
    return {"split": split, "figures": figures, "keys": keys, "novelty": novelty, "main": main, "levels": bool(level)}


def loss_figures(events: Sequence[Event], stages: StageRuns) -> list[Figure]:
    """Loss curves: each phase of the warm start, then each learner of each arm through all its units."""
    figures = []
    for event in events:
        if event["event"] == "phase" and event.get("losses"):
            svg = plots.losses([(None, event["losses"])], f"loss, {event['name']}", event.get("loss_name", "loss"), "s3")
            figures.append(Figure(event["name"], Markup(svg)))
    for (arm, stage), units in stages.items():
        curves = [(unit, event["losses"]) for unit, event in units.items() if event.get("losses")]
        if curves:
            name = next((e["loss_name"] for e in units.values() if "loss_name" in e), "loss")
            colour = "s1" if stage == "train_encoder" else "s2"
            title = f"{LABELS.get(arm, arm)}: {stage_label(stage)}"
            figures.append(Figure(title, Markup(plots.losses(curves, f"loss, {title}", name, colour))))
    return figures


def reward_figures(stages: StageRuns) -> dict[str, Any]:
    """Mean reward, gap of the pairs and number of pairs by unit, a line for each arm."""
    arms = [arm for arm, stage in stages if stage == "score"]
    colours = plots.legend(arms)
    figures = []
    shown = {
        "rewards_mean": "Mean reward of sampled rewrites",
        "reward_gap_mean": "Reward gap, chosen less rejected",
        "pairs": "Pairs",
    }
    for key, title in shown.items():
        series = {a: [(u, e[key]) for u, e in stages[a, "score"].items() if e.get(key) is not None] for a in arms}
        series = {arm: points for arm, points in series.items() if points}
        if series:
            figures.append(Figure(title, Markup(plots.lines(series, colours, title, "unit", key.replace("_", " ")))))
    return {"figures": figures, "keys": [(LABELS.get(a, a), colours[a], False) for a in arms]}


def lag(stages: StageRuns) -> dict[str, Any]:
    """A sentence on lag; figures only where a lag is above zero."""
    lags = {key: [(u, e["lag"]) for u, e in units.items() if e.get("lag") is not None] for key, units in stages.items()}
    lags = {key: points for key, points in lags.items() if points}
    values = [lag for points in lags.values() for _, lag in points]
    figures = []
    for (arm, stage), points in lags.items():
        if max(values) > 0:
            title = f"{LABELS.get(arm, arm)}: {stage_label(stage)}"
            figures.append(Figure(title, Markup(plots.lines({stage: points}, {stage: "s1"}, f"lag, {title}", "unit", "versions"))))
    text = f"Highest lag at which a record was consumed: {max(values)} (over {len(values)} stage runs)." if values else ""
    return {"text": text, "figures": figures}


def stream_figures(stream: Mapping[str, Any]) -> dict[str, Any]:
    """Prequential nDCG@5 over the stream by slice, a line for each alternative."""
    arms = list(next(iter(stream.get("curves", {}).values()), {}))
    colours = plots.legend(arms)
    figures = []
    for name, by_arm in stream.get("curves", {}).items():
        series = {arm: [(place, 100 * value) for place, value in points] for arm, points in by_arm.items()}
        title = f"{name} queries, mean of the last {stream['window'][name]}"
        figures.append(Figure(title, Markup(plots.lines(series, colours, title, "queries so far", "NDCG@5 (%)"))))
    return {"figures": figures, "keys": [(arm, colours[arm], False) for arm in arms]}


def time_figures(events: Sequence[Event], stages: StageRuns) -> list[Figure]:
    """Seconds worked and waited by stage, a figure for each arm; seconds of whole arms and of the phases outside the loop."""
    figures = []
    for arm in dict.fromkeys(arm for arm, _ in stages):
        bars = [
            (stage_label(s), [sum(e[k] for e in units.values()) for k in ("worked_s", "waited_s")])
            for (a, s), units in stages.items()
            if a == arm
        ]
        title = f"{LABELS.get(arm, arm)}: stages"
        figures.append(Figure(title, Markup(plots.bars(bars, ("s1", "grid"), f"time, {title}", "seconds"))))
    phases: dict[bool, dict[str, float]] = {False: defaultdict(float), True: defaultdict(float)}
    for event in events:
        if event["event"] == "phase":
            name = event["name"].replace("rewrites for the comparison", "rewrites")
            phases[name.startswith("arm ")][name] += event["seconds"]
    for whole, title in ((True, "Whole arms, with their stages"), (False, "Outside the loop")):
        if seconds := phases[whole]:
            svg = plots.bars([(name, [s]) for name, s in seconds.items()], ("s1",), f"time, {title}", "seconds")
            figures.append(Figure(title, Markup(svg)))
    return figures


def memory_figures(events: Sequence[Event]) -> dict[str, Any]:
    """Memory by role over the minutes of the run, and the legend's keys."""
    points = memory_points(events)
    if not points:
        return {"figures": [], "keys": []}
    usage: dict[str, list[float]] = {}
    for index, (_, event) in enumerate(points):
        for role, gb in event.get("by_role", {}).items():
            usage.setdefault(role, [0.0] * len(points))[index] = gb
    largest = sorted(usage, key=lambda role: -sum(usage[role]))
    roles = {role.replace("_", " "): usage[role] for role in largest[:ROLES_SHOWN]}
    if rest := [usage[role] for role in largest[ROLES_SHOWN:]]:
        roles["others"] = [sum(values) for values in zip(*rest, strict=True)]
    svg = plots.memory([m for m, _ in points], [e["gb"] for _, e in points], roles, "memory over the run")
    keys = [(name, colour, False) for name, colour in plots.legend(roles).items()]
    return {"figures": [Figure("Resident memory", Markup(svg), wide=True)], "keys": keys}


def memory_points(events: Sequence[Event]) -> list[tuple[float, Event]]:
    """The samples of memory, each with its minute of the run."""
    return [(minute, e) for minute, e in zip(elapsed_minutes(events), events, strict=True) if e["event"] == "memory"]


def elapsed_minutes(events: Sequence[Event]) -> list[float]:
    """Minutes since the first event, for each event; a long pause counts as ``LONGEST_PAUSE_S``."""
    minutes = [0.0] if events else []
    for before, after in pairwise(e["time"] for e in events):
        minutes.append(minutes[-1] + min(max(after - before, 0.0), LONGEST_PAUSE_S) / 60)
    return minutes


def stage_label(stage: str) -> str:
    """How a reader sees a stage's name."""
    return stage.replace("_", " ")
