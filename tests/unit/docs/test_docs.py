"""Every command of the README and of docs is one: its program, subcommand, options, files, settings and routes exist."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.docs.checking import CHECKERS, Wrong, check
from tests.unit.docs.reading import ROOT, Command, commands, pages, split

pytestmark = pytest.mark.timeout(120)

PROGRAMS = frozenset(CHECKERS)
RUN = {"configs.reference", "pipelines.speed.capacity"}
"""Modules that answer at once and change nothing; of others, commands with --help or --dry-run are run."""


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    wrong = []
    for command in commands(page, PROGRAMS):
        try:
            check(command)
        except Wrong as error:
            wrong.append(f"{command.place}: {command.text.strip()}\n    {error}")
    assert not wrong, "\n".join(wrong)


def test_the_pages_have_commands_of_every_kind() -> None:
    found = [command for page in pages() for command in commands(page, PROGRAMS)]
    assert {"make", "cohyde", "python", "curl", "ray", "serve", "kubectl", "docker"} <= {command.program for command in found}
    assert len(found) > 80


def cheap() -> list[Command]:
    """Those that are run, once each."""
    found = {}
    for page in pages():
        for command in commands(page, PROGRAMS):
            module = command.words[2] if command.words[:2] == ("python", "-m") else ""
            ours = command.program == "cohyde" or module.startswith("pipelines.")
            harmless = ours and {"--help", "--dry-run"} & {*command.words}
            if command.fixed and command.strict and (harmless or module in RUN):
                found[command.words] = command
    return list(found.values())


@pytest.mark.parametrize("command", cheap(), ids=lambda command: " ".join(command.words))
def test_what_is_cheap_is_run(command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    cohyde = command.program == "cohyde"
    name = "pipelines.cli" if cohyde else command.words[2]
    arguments = list(command.words[1:] if cohyde else command.words[3:])
    if name == "pipelines.cotrain":
        name, arguments = "pipelines.cli", ["cotrain", *arguments]
    assert importlib.import_module(name).main(arguments) == 0
    assert capsys.readouterr().out.strip()


def test_every_metric_that_a_page_names_is_measured() -> None:
    named = {name for page in pages() for name in re.findall(r"\bray_cohyde_(\w+)", page.read_text(encoding="utf-8"))}
    sources = [path for top in ("actors", "serve_app", "pipelines") for path in (ROOT / top).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)

    def measured(name: str) -> bool:
        # Names of the intake's and of drift's figures are made of the figures' own.
        figure = re.fullmatch(r"(?:intake|drift)_(\w+)", name)
        if figure:
            return f'"{figure[1]}"' in code
        return any(f"{before}_{name.removesuffix(after)}" in code for before in ("cohyde", "{PREFIX}") for after in ("", "_total"))

    assert len(named) > 10
    assert [name for name in sorted(named) if not measured(name)] == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in pages():
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert {"demo", "serve", "test"} <= {*done.stdout.split()}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("make demos", "no target demos"),
        ("make demo EXTRAS=gpu", "no variable EXTRAS"),
        ('make demo ARGS="rewriter.rerank_row=1"', "did you mean rewriter.rerank_rows"),
        ("cohyde release list runs/x", "no command release"),
        ("cohyde keys add keys.json", "tenant"),
        ("cohyde serve --dry-runs", "No such option"),
        ("cohyde serve replica=2", "did you mean replicas"),
        ("python -m pipelines.nothing", "no module"),
        ("python -m pipelines.cotrain --config configs/none.yaml", "does not exist"),
        ("python -m pipelines.cotrain --config configs/demo.yaml loop.unit=2", "did you mean loop.units"),
        ("python -m configs.reference --chek", "no option --chek"),
        ("curl localhost:8000/v2/search", "no GET /v2/search"),
        ("""curl localhost:8000/v1/search -d '{"quary": "x"}'""", "quary"),
        ("ray start --heads", "no option --heads"),
        ("ray job submit -- python -m pipelines.nothing", "no module"),
        ("serve run serve_app.app:make run=x", "no make"),
        ("kubectl apply -f configs/kuberay/none.yaml", "does not exist"),
        ("docker build --build-arg EXTRAS=gpu .", "no argument EXTRAS"),
        ('pip install "cohyde[nothing]"', "no extra nothing"),
        ("frobnicate --all", "no program"),
    ],
)
def test_a_wrong_command_is_found(text: str, told: str) -> None:
    [command] = split(text, "here", strict=True)
    with pytest.raises(Wrong, match=told):
        check(command)


def test_a_page_is_read_as_a_reader_would(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `make test` or `cohyde log forget --tenant NAME`, not `PUT /x`.\n"
        "```sh\nexport A=1; make serve   # here\ncat > x.py <<'EOF'\nmake nothing\nEOF\n"
        "curl localhost/x -d '{\n  \"a\": 1}' | jq .\n```\n"
        "```\na drawing of make\nA=2 python -m pipelines.serve \\\n  --port <port> > out\n```\n"
        "```json\nmake nothing\n```\n"
    )
    found = [command.words for command in commands(page, PROGRAMS)]
    assert found == [
        ("export", "A=1"),
        ("make", "serve"),
        ("cat",),
        ("curl", "localhost/x", "-d", '{\n  "a": 1}'),
        ("jq", "."),
        ("python", "-m", "pipelines.serve", "--port", "PLACEHOLDER"),
        ("make", "test"),
        ("cohyde", "log", "forget", "--tenant", "NAME"),
    ]
