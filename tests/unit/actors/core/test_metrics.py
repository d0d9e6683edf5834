"""Metrics of events."""

from __future__ import annotations

from actors.core.metrics import samples_of


def test_a_stage_gives_times_unit_and_lag() -> None:
    event = {"event": "stage", "arm": "cohyde", "stage": "score", "unit": 3, "worked_s": 2.5, "waited_s": 1.0, "lag": 1}
    found = {sample.name: (sample.value, sample.counts) for sample in samples_of(event)}
    assert found == {
        "cohyde_stage_worked_seconds_total": (2.5, True),
        "cohyde_stage_waited_seconds_total": (1.0, True),
        "cohyde_stage_unit": (3.0, False),
        "cohyde_stage_lag_versions": (1.0, False),
    }
    assert samples_of(event)[0].labels == (("arm", "cohyde"), ("stage", "score"))


def test_the_gates_decisions_are_counted() -> None:
    event = {"event": "stage", "arm": "cohyde", "stage": "judge", "unit": 3, "worked_s": 2.5, "waited_s": 1.0, "promoted": False}
    assert samples_of(event)[-1].labels == (("decision", "kept"),)


def test_figures_of_log_drift_and_memory() -> None:
    assert [s.name for s in samples_of({"event": "intake", "time": 1.0, "unread": 4, "refused": {"x": 1}})] == [
        "cohyde_intake_unread"
    ]
    assert samples_of({"event": "drift", "mmd_p": 0.5})[0].value == 0.5
    assert samples_of({"event": "memory", "gb": 3.0, "by_role": {"driver": 1.0}})[0].labels == (("role", "driver"),)
    assert samples_of({"event": "phase", "name": "x", "seconds": 1.0}) == []
