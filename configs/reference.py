"""docs/configuration.md, made of the schema: ``python -m configs.reference > docs/configuration.md``, or ``--check``.

Invariants: every field of a run and of serving is there once, with its type, default and docstring, and with each shipped file
that sets it; nothing is written but to standard output; the same schema gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from configs import schema, serving
from configs.load import layers_of

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "configuration.md"
SERVED = ("serve.yaml",)
"""The shipped files that hold settings of serving."""
COMMAND = "python -m configs.reference"
HEAD = f"""# Configuration

Made by `{COMMAND} > docs/configuration.md` of `configs/schema.py` and `configs/serving.py`; a test fails where it is stale.

A run's settings are YAML files with `defaults:` (other files, taken first) and dotted overrides on the command line, as in
`python -m pipelines.cotrain --config configs/rounds.yaml rewriter.samples_per_query=8`. Mappings are merged, everything else is
replaced. `--dry-run` prints the resolved settings and the placement plan. The last column names the shipped files that set a field
themselves, with what they set it to; a file has what its `defaults:` say too.
"""
SERVING_HEAD = """## Serving

Given as `name=value` to `python -m pipelines.serve` (`cohyde serve`, `make serve ARGS="..."`) and `serve run serve_app.app:build`,
or under `args` of an application in `configs/serve.yaml`. `python -m pipelines.serve --dry-run` prints what would be deployed.
"""
COLUMNS = "| field | type | default | what it is | set by |\n|---|---|---|---|---|"

Settings = Mapping[str, Mapping[str, Any]]
"""File name -> what it sets itself."""


class Part(NamedTuple):
    """A section in its place: what its fields' dotted names begin with, and its defaults there (None: the class's own)."""

    section: type[BaseModel]
    prefix: str
    defaults: BaseModel | None


def page() -> str:
    """The whole page, in Markdown."""
    runs, served = _shipped()
    parts = [HEAD, _files(), "## Runs\n"]
    parts += [_section(part, runs) for part in _parts(schema.Config, "", None)]
    parts.append(SERVING_HEAD)
    parts += [_section(part, served) for part in _parts(serving.ServingConfig, "", None)]
    return "\n".join(parts)


def _parts(section: type[BaseModel], prefix: str, defaults: BaseModel | None) -> Iterator[Part]:
    """A section, then those that stand in it."""
    yield Part(section, prefix, defaults)
    for name, field in section.model_fields.items():
        inner = _model(field.annotation)
        if inner is not None:
            yield from _parts(inner, f"{prefix}{name}.", field.default)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where it may be null; None for a value."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if inspect.isclass(one) and issubclass(one, BaseModel):
            return one
    return None


def _section(part: Part, settings: Settings) -> str:
    section, prefix, defaults = part
    types, described = _source(section)
    title = f"`{prefix.rstrip('.')}`" if prefix else "Top level"
    lines = [f"### {title}\n", f"{inspect.getdoc(section)}\n", COLUMNS]
    for name, field in section.model_fields.items():
        about = described.get(name, "")
        if _model(field.annotation) is not None:
            default = "`null`" if field.default is None else ""
            lines.append(_row(prefix + name, "section", default, about or "See below.", ""))
            continue
        value = getattr(defaults, name) if defaults else field.default
        default = "required" if field.is_required() else f"`{_yaml(value)}`"
        lines.append(_row(prefix + name, f"`{types[name]}`", default, about, _set_by(prefix + name, settings)))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    name, *others = (cell.replace("\n", " ").replace("|", "\\|") for cell in cells)
    return " | ".join([f"| `{name}`", *others]) + " |"


def _source(section: type[BaseModel]) -> tuple[dict[str, str], dict[str, str]]:
    """Each field's type as it is written, and the docstring under it."""
    types: dict[str, str] = {}
    described: dict[str, str] = {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        types[node.target.id] = _type(node.annotation)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            described[node.target.id] = inspect.cleandoc(str(after.value.value))
    return types, described


def _type(annotation: ast.expr) -> str:
    """A type as a reader wants it: ``Annotated[int, Field(ge=1)]`` is ``int >= 1``."""
    if isinstance(annotation, ast.BinOp):
        return f"{_type(annotation.left)} | {_type(annotation.right)}"
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "null"
    if isinstance(annotation, ast.Name) and annotation.id in ("Positive", "Count", "Share"):
        return {"Positive": "int >= 1", "Count": "int >= 0", "Share": "float 0 to 1"}[annotation.id]
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inside = annotation.slice
        if annotation.value.id == "Annotated" and isinstance(inside, ast.Tuple):
            return " ".join([_type(inside.elts[0]), *map(_bounds, inside.elts[1:])])
        if annotation.value.id == "Literal":
            values = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return " | ".join(ast.literal_eval(value) for value in values)
        if annotation.value.id == "list":
            return f"list of {_type(inside)}"
    return ast.unparse(annotation)


def _bounds(field: ast.expr) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    assert isinstance(field, ast.Call)
    return ", ".join(f"{signs[word.arg or '']} {ast.unparse(word.value)}" for word in field.keywords)


def _shipped() -> tuple[Settings, Settings]:
    """What each shipped file sets itself: of runs, and of serving."""
    runs, served = {}, {}
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.name in SERVED:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            served[path.name] = content["applications"][0]["args"]
        else:
            runs[path.name] = layers_of(path)[-1].settings
    return runs, served


def _files() -> str:
    lines = ["## Shipped files\n", "| file | begins with | what it is |\n|---|---|---|"]
    for path in sorted(FOLDER.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comment = [line.lstrip("# ") for line in text[: len(text) - len(_without_comment(text))].splitlines()]
        defaults = (yaml.safe_load(text) or {}).get("defaults", [])
        about = " ".join(comment).replace("|", "\\|")
        lines.append(f"| `configs/{path.name}` | {', '.join(f'`{name}`' for name in defaults)} | {about} |")
    return "\n".join(lines) + "\n"


def _without_comment(text: str) -> str:
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[first:])


def _set_by(key: str, settings: Settings) -> str:
    found = []
    for file, tree in settings.items():
        value: Any = tree
        for name in key.split("."):
            if not isinstance(value, Mapping) or name not in value:
                break
            value = value[name]
        else:
            found.append(f"{file.removesuffix('.yaml')} `{_yaml(value)}`")
    return ", ".join(found)


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def main(arguments: list[str] | None = None) -> int:
    """Print the page, or say whether docs/configuration.md is it (exit code 1 where it is not)."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="The reference of all settings, in Markdown.")
    parser.add_argument("--check", action="store_true", help=f"print nothing; fail where docs/{PAGE.name} is stale")
    if not parser.parse_args(arguments).check:
        print(page(), end="")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"docs/{PAGE.name} is stale; run: {COMMAND} > docs/{PAGE.name}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
