"""Imports run one way, and the heavy libraries stay where they belong: read off the source, not off what happens to be loaded."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("configs", "actors.core", "actors", "serve_app", "pipelines")
"""From the lowest to the highest: a module imports from its own layer and from those before it."""
RAY = {
    "actors/remote.py",
    "actors/monitor.py",
    "pipelines/cli.py",
    "pipelines/datasets.py",
    "pipelines/train_loops.py",
    "pipelines/streams/kafka.py",
    "serve_app/app.py",
    "serve_app/measures.py",
    "serve_app/model_calls.py",
}
VLLM = {"actors/vllm_engine.py"}
NAMED_BY_USERS = {"pipelines.ingestion.langchain_source"}
"""Modules that import what their user names on the command line, which no reading of the source can tell."""
TORCH_FREE = ("configs", "actors.core")
HEAVY = {"torch", "ray", "vllm", "transformers", "trl", "peft", "sentence_transformers", "faiss"}


def layer_of(module: str) -> str | None:
    """The layer a dotted name belongs to; None for what is not ours."""
    if module == "actors.core" or module.startswith("actors.core."):
        return "actors.core"
    top = module.partition(".")[0]
    return top if top in LAYERS else None


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Every dotted name that ``module`` imports anywhere, inside functions too; relative imports made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if is_package else module.rpartition(".")[0]
                for _ in range(node.level - 1):
                    package = package.rpartition(".")[0]
                base = f"{package}.{base}".rstrip(".")
            # `from actors import core` imports the module actors.core, `from actors.core import types` its submodule.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module", "__import__"}:
            if not (node.args and isinstance(node.args[0], ast.Constant)):
                if module in NAMED_BY_USERS:
                    continue
                raise AssertionError(f"{module}: imports a name that only a run can tell: {ast.unparse(node)}")
            yield str(node.args[0].value)


def modules() -> list[Path]:
    return sorted(path for top in ("configs", "actors", "serve_app", "pipelines") for path in (ROOT / top).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    return set(imported(path.read_text(), module, is_package=is_package))


def backward(path: Path) -> list[str]:
    """Imports of a layer above the file's own."""
    own = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert own is not None
    allowed = LAYERS[: LAYERS.index(own) + 1]
    return [name for name in imports_of(path) if (layer := layer_of(name)) is not None and layer not in allowed]


def importers(library: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(name.partition(".")[0] == library for name in imports_of(path))
    }


def test_the_reader_sees_every_form_of_import() -> None:
    source = """
import a.b as c
from d import e
from . import f
from ..g import h
def later():
    import ray.data
    importlib.import_module("i.j")
"""
    assert set(imported(source, "p.q.r")) == {"a.b", "d.e", "p.q.f", "p.g.h", "ray.data", "i.j"}
    assert set(imported("from .x import y", "p.q", is_package=True)) == {"p.q.x.y"}
    assert layer_of("actors.core.types") == "actors.core"
    assert layer_of("actors.corer") == "actors"
    assert layer_of("torch") is None


def test_a_backward_import_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "actors" / "core").mkdir(parents=True)
    wrong = tmp_path / "actors" / "core" / "wrong.py"
    wrong.write_text("import json\nfrom configs import schema\nfrom actors import registry\n")
    assert backward(wrong) == ["actors.registry"]
    wrong.write_text("from actors import core\nfrom actors.core import types\n")
    assert backward(wrong) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    assert backward(path) == []


def test_only_the_tests_are_imported_by_tests() -> None:
    assert importers("tests") == set()


def test_ray_is_imported_only_where_it_is_applied() -> None:
    assert importers("ray") - RAY == set()


def test_vllm_is_imported_only_by_its_engine() -> None:
    assert importers("vllm") - VLLM == set()


@pytest.mark.parametrize("layer", TORCH_FREE)
def test_configuration_and_core_name_no_heavy_library(layer: str) -> None:
    files = [path for path in modules() if layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) == layer]
    assert files
    named = {path.name: {name.partition(".")[0] for name in imports_of(path)} & HEAVY for path in files}
    assert {name: libraries for name, libraries in named.items() if libraries} == {}


@pytest.mark.parametrize("module", ["configs.load", "actors.core.types", "actors.interfaces"])
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []
