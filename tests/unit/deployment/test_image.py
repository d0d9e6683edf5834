"""The Dockerfile holds together: it cannot be built here, so what it names is compared with the repository."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

from pipelines.preflight import PYTHONS

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, its text) of the Dockerfile, continuation lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(words[0], words[1]) for line in text.splitlines() if (words := line.split(maxsplit=1))]


def copied() -> list[str]:
    """Sources of all COPY instructions."""
    found = []
    for name, text in instructions():
        if name == "COPY":
            found += [word for word in shlex.split(text) if not word.startswith("--")][:-1]
    return found


def test_what_is_copied_exists_and_all_packages_are() -> None:
    sources = copied()
    assert [path for path in sources if not (ROOT / path).exists()] == []
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= {*sources}


def test_the_ignore_file_lets_through_what_is_copied_and_nothing_else() -> None:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = {line[1:] for line in patterns if line.startswith("!")}
    assert patterns[1] == "*"
    assert allowed == {*copied()}
    assert not any(fnmatch.fnmatch("keys.json", pattern) or fnmatch.fnmatch("runs", pattern) for pattern in allowed)


def test_python_is_one_that_the_project_supports() -> None:
    base = dict(instructions())["FROM"]
    found = re.fullmatch(r"python:(\d+)\.(\d+)-slim", base)
    assert found, base
    assert PYTHONS[0] <= (int(found[1]), int(found[2])) <= PYTHONS[1]


def test_the_default_extra_exists_and_so_does_the_other() -> None:
    arguments = [text for name, text in instructions() if name == "ARG"]
    assert "EXTRA=cpu" in arguments
    assert {"cpu", "gpu"} <= PROJECT["optional-dependencies"].keys()


def test_the_install_takes_the_options_that_it_is_given() -> None:
    [run] = [text for name, text in instructions() if name == "RUN" and "install.py" in text]
    options = re.findall(r"--[\w-]+", run)
    installer = (ROOT / ".ci" / "install.py").read_text(encoding="utf-8")
    assert options and [option for option in options if f'"{option}"' not in installer] == []


def test_what_the_image_runs_is_declared() -> None:
    [command] = [text for name, text in instructions() if name == "CMD"]
    assert shlex.split(command.strip("[]").replace(",", " "))[0] in PROJECT["scripts"]
    module, _, function = PROJECT["scripts"]["cohyde"].partition(":")
    source = ROOT / (module.replace(".", "/") + ".py")
    assert f"def {function}(" in source.read_text(encoding="utf-8")


def test_it_ends_as_a_user_without_rights_and_holds_no_secret() -> None:
    found = instructions()
    assert [text for name, text in found if name == "USER"][-1] == "ray"
    secret = re.compile(r"(?i)(password|secret|token|api_?key|aws_)\s*=")
    assert [text for _, text in found if secret.search(text)] == []
