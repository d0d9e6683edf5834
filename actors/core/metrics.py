"""From events of a run to metrics for a scraper.

Invariants: pure; a metric's name and labels never change with the data, so their number is bounded; names follow Prometheus'
conventions (a unit as suffix, ``_total`` for what only counts up).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "cohyde"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. ``counts`` is for what only goes up: the value is added."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    counts: bool = False


def samples_of(event: Mapping[str, Any]) -> list[Sample]:
    """What an event says in numbers; empty for events that no dashboard needs."""
    kind = event.get("event")
    if kind == "stage":
        return _of_stage(event)
    if kind in ("intake", "drift"):
        return _of_figures(str(kind), event)
    if kind == "memory":
        by_role = event["by_role"].items()
        return [Sample(f"{PREFIX}_memory_gigabytes", float(gb), (("role", str(role)),)) for role, gb in by_role]
    return []


def _of_stage(event: Mapping[str, Any]) -> list[Sample]:
    labels = (("arm", str(event["arm"])), ("stage", str(event["stage"])))
    found = [
        Sample(f"{PREFIX}_stage_worked_seconds_total", float(event["worked_s"]), labels, counts=True),
        Sample(f"{PREFIX}_stage_waited_seconds_total", float(event["waited_s"]), labels, counts=True),
        Sample(f"{PREFIX}_stage_unit", float(event["unit"]), labels),
    ]
    if "lag" in event:
        found.append(Sample(f"{PREFIX}_stage_lag_versions", float(event["lag"]), labels))
    if event["stage"] == "judge":
        decision = "promoted" if event.get("promoted") else "kept"
        found.append(Sample(f"{PREFIX}_releases_total", 1.0, (("decision", decision),), counts=True))
    for name in ("loss_last", "rewards_mean", "reward_gap_mean"):
        if name in event:
            found.append(Sample(f"{PREFIX}_{name}", float(event[name]), labels))
    return found


def _of_figures(kind: str, event: Mapping[str, Any]) -> list[Sample]:
    figures = {k: v for k, v in event.items() if isinstance(v, int | float) and k != "time"}
    return [Sample(f"{PREFIX}_{kind}_{name}", float(value)) for name, value in figures.items()]
