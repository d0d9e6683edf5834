"""What a documented command must satisfy, by its program: found without running it, from the program's own declaration."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import typer
import yaml
from pydantic import BaseModel

from configs import load as configuration
from configs.errors import InputError
from configs.serving import ServingConfig
from configs.serving import parse as parse_serving
from tests.unit.docs.reading import PLACEHOLDER, ROOT, Command, is_placeholder

JOBS = ("cotrain", "evaluate", "report", "serve", "simulate")
"""Jobs of ``cohyde`` that are modules of their own: ``cohyde JOB`` is ``python -m pipelines.JOB``."""
IMAGE = "/opt/cohyde/"
"""Where the image has the repository."""
OUR_PATH = re.compile(r"^(configs|docs|tests|pipelines|serve_app|actors)/[\w./-]+$")


class Wrong(Exception):
    """What is wrong with a command."""


def check(command: Command) -> None:
    """Raises ``Wrong``."""
    checker = CHECKERS.get(command.program)
    if checker is None:
        raise Wrong(f"{command.program!r} is no program that the docs may use; if it is meant, add it to CHECKERS")
    _check_paths(command.words)
    checker(command)


def _check_paths(words: Sequence[str]) -> None:
    """What is named like a file of this repository is one."""
    for word in words:
        path = word.rpartition("=")[2].removeprefix(IMAGE)
        if OUR_PATH.match(path) and not (ROOT / path).exists():
            raise Wrong(f"{path} does not exist")


# Make ----------------------------------------------------------------------------------------------------------------------------


def _make(command: Command) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = {*re.findall(r"^([A-Z_]+) \?=", text, re.MULTILINE)}
    for word in command.words[1:]:
        name, equals, _ = word.partition("=")
        if not equals:
            rule = re.search(rf"^{re.escape(name)}:.*\n((?:\t.*\n)*)", text, re.MULTILINE)
            if rule is None:
                raise Wrong(f"make has no target {name}")
            given = dict(w.partition("=")[::2] for w in command.words[1:] if "=" in w)
            _make_arguments(command, rule[1], given.get("ARGS", ""))
        elif name not in variables:
            raise Wrong(f"make has no variable {name}; there are {', '.join(sorted(variables))}")


def _make_arguments(command: Command, recipe: str, arguments: str) -> None:
    """What ARGS hands on is checked as the program's own arguments."""
    line = next((line for line in recipe.splitlines() if "$(ARGS)" in line), "")
    if arguments not in ("", "...") and line:
        words = line.strip().removeprefix("@$(RUN)").replace("$(ARGS)", arguments).split()
        _python(Command(command.place, command.text, ("python", *words), command.strict))


# Our own programs ----------------------------------------------------------------------------------------------------------------


def _cohyde(command: Command) -> None:
    words = command.words[1:]
    if words and words[0] in JOBS:
        _module(f"pipelines.{words[0]}", words[1:], command.strict)
        return
    from pipelines import cli

    _arguments(typer.main.get_command(cli.app), "cohyde", words, command.strict)


def _python(command: Command) -> None:
    words = command.words[1:]
    if words[:1] == ("-m",) and len(words) > 1:
        _module(words[1], words[2:], command.strict)
    elif words[:1] != ("-c",) and words and words[0].endswith(".py") and not (ROOT / words[0]).exists():
        raise Wrong(f"{words[0]} does not exist")


def _module(name: str, words: Sequence[str], strict: bool) -> None:
    ours = name.partition(".")[0] in ("actors", "configs", "pipelines", "serve_app")
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise Wrong(f"there is no module {name}")
    if not ours:
        return
    if name == "pipelines.cotrain":
        from pipelines import cli

        _arguments(typer.main.get_command(cli.app), "cohyde", ("cotrain", *words), strict)
        return
    if spec.submodule_search_locations is not None:
        name += ".__main__"
    module = importlib.import_module(name)
    app = next((value for value in vars(module).values() if isinstance(value, typer.Typer)), None)
    if app is not None:
        _arguments(typer.main.get_command(app), name, words, strict)
        return
    told = _help(name)
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in told:
            raise Wrong(f"python -m {name} has no option {word}")


@cache
def _help(module: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise Wrong(f"python -m {module} --help fails: {done.stderr.strip()}")
    return done.stdout


def _arguments(command: Any, name: str, words: Sequence[str], strict: bool) -> None:
    """Parse the arguments as the program would; settings among them are loaded as it would."""
    path = [name]
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return
        if words[0] not in command.commands:
            raise Wrong(f"{' '.join(path)} has no command {words[0]}; there are {', '.join(command.commands)}")
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    try:
        given = command.make_context(" ".join(path), ["1" if word == "N" else word for word in words]).params
    except typer.exceptions.Exit:
        return
    except typer.exceptions.TyperException as error:
        if type(error).__name__ == "MissingParameter" and not strict:
            return
        raise Wrong(f"{' '.join(path)}: {' '.join(error.format_message().split())}") from error
    try:
        _settings(given)
    except InputError as error:
        raise Wrong(f"{' '.join(path)}: {error}") from error


def _settings(given: dict[str, Any]) -> None:
    """A configuration and its overrides, or settings of serving, hold what their schema knows."""
    overrides = [text for text in given.get("overrides") or [] if not is_placeholder(text)]
    if "config" in given and not is_placeholder(str(given["config"])):
        configuration.load(str(ROOT / str(given["config"]).removeprefix(IMAGE)), overrides)
    if "settings" in given:
        serving([text for text in given["settings"] or [] if not is_placeholder(text)])


def serving(texts: Sequence[str]) -> None:
    """Raises InputError for settings that serving does not know."""
    pairs: dict[str, Any] = {"run": PLACEHOLDER}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text}: settings are given as name=value")
        section, _, rest = name.partition(".")
        if rest:
            pairs.setdefault(section, {})[rest] = value
        else:
            pairs[name] = value
    parse_serving(pairs)


# HTTP ----------------------------------------------------------------------------------------------------------------------------


@cache
def api() -> Any:
    """The application as it is served, without anything behind its routes."""
    from serve_app.api import make_app

    nothing: Any = None
    guard: Any = make_app(nothing, ServingConfig(run=PLACEHOLDER), nothing)
    return guard._app


def _curl(command: Command) -> None:
    options = dict(itertools.pairwise(command.words))
    body = next((options[name] for name in ("-d", "--data", "--json") if name in options), None)
    method = options.get("-X") or options.get("--request") or ("GET" if body is None else "POST")
    for word in command.words[1:]:
        if re.match(r"^(https?://)?(localhost|127\.0\.0\.1|PLACEHOLDER)[:/]", word):
            _route(urlsplit(word if "://" in word else f"http://{word}").path or "/", method, body)


def _route(path: str, method: str, body: str | None) -> None:
    document = api().openapi()
    for template, methods in document["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", ".+", template), path) and method.lower() in methods:
            _body(methods[method.lower()], body)
            return
    # Pages and mounted applications have routes and no document.
    for route in api().routes:
        if getattr(route, "path", None) == path or (hasattr(route, "app") and path.startswith(f"{route.path}/")):
            return
    raise Wrong(f"the API has no {method} {path}")


def _body(operation: dict[str, Any], body: str | None) -> None:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if body is None or "$ref" not in schema or body.startswith("@"):
        return
    name = schema["$ref"].rpartition("/")[2]
    for module in ("search", "catalog"):
        model = getattr(importlib.import_module(f"serve_app.schema.{module}"), name, None)
        if isinstance(model, type) and issubclass(model, BaseModel):
            try:
                model.model_validate(json.loads(body))
            except ValueError as error:
                raise Wrong(f"{name}: {error}") from error


# Ray and the others --------------------------------------------------------------------------------------------------------------


def _ray(command: Command) -> None:
    from ray.scripts.scripts import cli

    words = list(command.words[1:])
    if "--" in words:
        at = words.index("--")
        words, entry = words[:at], words[at + 1 :]
        check(Command(command.place, command.text, tuple(entry), command.strict))
        words.append("PLACEHOLDER")
    _clicks(cli, "ray", words)


def _serve(command: Command) -> None:
    from ray.serve.scripts import cli

    words = list(command.words[1:])
    _clicks(cli, "serve", words)
    for word in words:
        if ":" in word and "=" not in word and word.startswith("serve_app"):
            module, _, name = word.partition(":")
            if not hasattr(importlib.import_module(module), name):
                raise Wrong(f"{module} has no {name}")
            settings = [w for w in words if "=" in w and not w.startswith("-")]
            try:
                serving(settings)
            except InputError as error:
                raise Wrong(str(error)) from error


def _clicks(command: Any, name: str, words: Sequence[str]) -> None:
    """Subcommands and options of a click program exist."""
    while hasattr(command, "commands") and words:
        if words[0] not in command.commands:
            raise Wrong(f"{name} has no command {words[0]}")
        name, command, words = f"{name} {words[0]}", command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in options | {"--help"}:
            raise Wrong(f"{name} has no option {word}")


def _docker(command: Command) -> None:
    arguments = {*re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)}
    for option, value in itertools.pairwise(command.words):
        if option == "--build-arg" and value.partition("=")[0] not in arguments:
            raise Wrong(f"the Dockerfile has no argument {value}")


def _kubectl(command: Command) -> None:
    for option, value in itertools.pairwise(command.words):
        if option == "-f" and not is_placeholder(value):
            list(yaml.safe_load_all((ROOT / value).read_text(encoding="utf-8")))


def _pip(command: Command) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, listed in re.findall(r"(\.|cohyde)\[([\w,-]+)\]", command.text):
        if missing := {*listed.split(",")} - extras.keys():
            raise Wrong(f"{name}[{listed}]: pyproject.toml has no extra {', '.join(sorted(missing))}")


def _anything(command: Command) -> None:
    """A program whose arguments are not ours."""


CHECKERS: dict[str, Callable[[Command], None]] = {
    "make": _make,
    "cohyde": _cohyde,
    "python": _python,
    "python3": _python,
    "curl": _curl,
    "ray": _ray,
    "serve": _serve,
    "docker": _docker,
    "kubectl": _kubectl,
    "pip": _pip,
    **dict.fromkeys(("cat", "cd", "cp", "echo", "export", "git", "helm", "jq", "mkdir", "mv", "printf", "rm", "source"), _anything),
    **dict.fromkeys(("sleep", "tar", "tee", "claude", "ls", "pre-commit", "aws", "rsync", "diff"), _anything),
}
"""By program. Those at the end are the shell's own and foreign ones."""
