"""The command that serves, up to what it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import serve


def test_a_run_may_be_named_as_any_other_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never() -> None:
        raise AssertionError("looked for a run although one was named")

    monkeypatch.setattr(serve, "find_run", never)
    for named in ([f"run={tmp_path}"], ["--run", str(tmp_path)]):
        assert serve.main(named) == 2
        assert "not a run directory" in capsys.readouterr().err
