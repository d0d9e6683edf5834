"""From YAML files and dotted overrides to one checked ``Config``, and back to a file.

Invariants: later layers win (files named by ``defaults:`` in their order, the file itself, then each override); mappings are
merged, everything else is replaced; whatever is wrong ends in one ``InputError`` line that names the key, the value, where it
stands and the nearest right key.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import InputError
from configs.schema import Config


class Layer(NamedTuple):
    """Settings of one origin: a file or one override on the command line."""

    origin: str
    settings: dict[str, Any]


def load(path: str | None, overrides: list[str]) -> Config:
    """The checked configuration of ``path`` (the schema's defaults if None) with ``a.b=value`` overrides on top.

    Raises InputError for a missing file, broken YAML, an unknown key (the nearest right one is named) or a value that does not fit.
    """
    layers = layers_of(Path(path)) if path is not None else []
    layers += [_override_layer(text) for text in overrides]
    merged: dict[str, Any] = {}
    for layer in layers:
        _check_keys(layer)
        _merge(merged, layer.settings)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise InputError(_explain(error, layers)) from error


def save(config: Config, path: Path) -> None:
    """Write the resolved configuration, every field of it, as YAML that ``load`` reads back; atomic."""
    text = "# The resolved configuration: every setting of this run.\n"
    text += yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def keys(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, str]:
    """Every dotted key, sections included, with its description."""
    found: dict[str, str] = {}
    for name, field in section.model_fields.items():
        found[prefix + name] = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys(field.annotation, f"{prefix}{name}.")
    return found


def layers_of(path: Path, parents: tuple[Path, ...] = ()) -> list[Layer]:
    """The layers of a file: those of the files it names under ``defaults``, then its own. Raises InputError as ``load`` does."""
    if path.resolve() in parents:
        raise InputError(f"{path}: its 'defaults' lead back to itself; remove one of them")
    settings = _read(path)
    defaults = settings.pop("defaults", [])
    if not isinstance(defaults, list) or not all(isinstance(name, str) for name in defaults):
        raise InputError(f"{path}: defaults={defaults!r} is not a list of file names; write 'defaults: [base.yaml]'")
    layers: list[Layer] = []
    for name in defaults:
        layers += layers_of(path.parent / name, (*parents, path.resolve()))
    return [*layers, Layer(str(path), settings)]


def _read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "none"
        raise InputError(f"{path}: no such configuration file; YAML files in that folder: {beside}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({' '.join(str(error).split())}); give a YAML file") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); correct the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not settings; write 'section: {{key: value}}'")
    return content


def _override_layer(text: str) -> Layer:
    """``a.b=value`` as a layer; the value is read as YAML."""
    key, equals, value_text = text.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"override {text!r} is not key=value; write for example rewriter.samples_per_query=8")
    try:
        value: Any = yaml.safe_load(value_text)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: the value is not YAML; quote it for the shell") from error
    for name in reversed(key.split(".")):
        value = {name: value}
    return Layer("command line", value)


def _merge(into: dict[str, Any], settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = _copy(value)


def _copy(value: Any) -> Any:
    """A value whose mappings may be merged into without touching the layer it came from."""
    return {name: _copy(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _check_keys(layer: Layer) -> None:
    """Refuse the first unknown key of a layer, where its origin is still known."""
    known = keys()

    def walk(settings: dict[str, Any], prefix: str) -> None:
        for name, value in settings.items():
            key = f"{prefix}{name}"
            if key not in known:
                raise InputError(f"{key}={value!r} ({layer.origin}): no such setting{_nearest(key, list(known))}")
            if isinstance(value, dict):
                walk(value, key + ".")

    walk(layer.settings, "")


def _nearest(key: str, known: list[str]) -> str:
    """The remedy for an unknown key: the nearest in its own section, else the nearest of all, else the section's keys."""
    section, _, name = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == section]
    by_name = difflib.get_close_matches(name, [k.rpartition(".")[2] for k in siblings], n=1)
    if by_name:
        return f"; did you mean {section + '.' if section else ''}{by_name[0]}?"
    elsewhere = [k for k in known if k.rpartition(".")[2] == name]
    if not elsewhere and not siblings:
        elsewhere = [k for k in difflib.get_close_matches(key, known, n=1) if not key.startswith(k + ".")]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    names = ", ".join(k.rpartition(".")[2] for k in siblings)
    if names:
        return f"; {section or 'the top level'} has {names}"
    return f"; {section} is a value, not a section" if section in known else "; see configs/schema.py for all settings"


def _explain(error: ValidationError, layers: list[Layer]) -> str:
    """One line for the first thing that is wrong."""
    first = error.errors()[0]
    known = keys()
    location = [str(part) for part in first["loc"]]
    while location and ".".join(location) not in known:
        location.pop()
    key = ".".join(location)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    origins = [layer.origin for layer in layers if _holds(layer.settings, location)]
    value = _value(layers, location) if origins else first["input"]
    hint = f" ({known[key].splitlines()[0]})" if known.get(key) else ""
    return f"{key}={value!r} ({origins[-1] if origins else 'default'}): {message[0].lower()}{message[1:]}{hint}"


def _holds(settings: Any, location: list[str]) -> bool:
    for name in location:
        if not isinstance(settings, dict) or name not in settings:
            return False
        settings = settings[name]
    return True


def _value(layers: list[Layer], location: list[str]) -> Any:
    """What the last layer that sets ``location`` says."""
    value: Any = next(layer.settings for layer in reversed(layers) if _holds(layer.settings, location))
    for name in location:
        value = value[name]
    return value
