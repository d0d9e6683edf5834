"""The command ``cohyde`` in an installation that does not hold everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import entry

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("job", "extra"), [("mcp", "mcp"), ("serve", "cpu")])
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: str, extra: str
) -> None:
    for module in ("pipelines.mcp", "pipelines.cli"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    # As if it were not there.
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.setattr(sys, "argv", ["cohyde", job, "--help"])
    assert entry.main() == 2
    assert capsys.readouterr().err == f"cohyde: typer is not installed; run: pip install 'cohyde[{extra}]'\n"


@pytest.mark.timeout(90)
def test_an_agents_machine_needs_no_model_for_mcp() -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['torch', 'ray', 'pyarrow', 'numpy', 'yaml', 'fastapi', 'transformers'])\n"
        "sys.argv = ['cohyde', 'mcp', '--help']\n"
        "from pipelines import entry\n"
        "sys.exit(entry.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=80)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--key-file" in done.stdout
