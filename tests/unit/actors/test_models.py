import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import constants

from actors import models
from actors.models import CarriedModel, native_precision, resolve_encoder, resolve_rewriter
from configs.errors import InputError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, no cache but an empty one, no packages but those a test makes."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "CARRIED", {})
    models._hub.cache_clear()


def model_at(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def carry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str) -> Path:
    """Install a package that carries ``path`` under the name "small"."""
    package = tmp_path / "site" / "carrier"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must be found without being imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(models, "CARRIED", {"small": CarriedModel("org/small", "carrier-dist", "carrier", path)})
    return package


def carry_gguf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = carry(monkeypatch, tmp_path, "small.gguf")
    (package / "small.gguf").write_bytes(b"GGUF")


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "mine")
    assert resolve_encoder(str(folder)) == folder


def test_a_directory_comes_before_a_package_of_that_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model_at(carry(monkeypatch, tmp_path, "model") / "model")
    monkeypatch.chdir(tmp_path)
    mine = model_at(tmp_path / "small")
    assert resolve_encoder("small") == mine


@pytest.mark.parametrize("name", ["small", "org/small"])
def test_a_package_s_directory_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    package = carry(monkeypatch, tmp_path, "model")
    model_at(package / "model")
    assert resolve_encoder(name) == package / "model"


def test_the_hub_s_cache_comes_before_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model_at(carry(monkeypatch, tmp_path, "model") / "model")
    cached = tmp_path / "cached"
    monkeypatch.setattr(models, "snapshot_download", lambda *_, **__: str(cached))
    cached.mkdir()
    assert resolve_encoder("small") != cached, "a folder without weights is no model"
    model_at(cached)
    assert resolve_encoder("small") == cached


def test_a_name_that_resolves_nowhere_lists_every_place_tried(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        resolve_rewriter("org/nothing")
    text = str(caught.value)
    assert text.startswith("rewriter.model='org/nothing' resolves nowhere; tried directory ")
    assert "does not exist" in text
    assert f"hub cache {tmp_path / 'hub'} (org/nothing is not in it)" in text
    assert "switched off by HF_HUB_OFFLINE" in text
    assert "installed packages (none carries 'org/nothing')" in text
    with pytest.raises(InputError, match="or no weights in it"):
        resolve_encoder(str(tmp_path / "empty"))


def test_a_carrier_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CARRIED", {"small": CarriedModel("org/small", "carrier-dist", "no_such_package", "model")})
    with pytest.raises(InputError, match=r"package carrier-dist \(not installed\)"):
        resolve_encoder("small")


def test_a_hub_out_of_reach_is_one_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models.HfApi, "model_info", unreachable)
    with pytest.raises(InputError, match=r"hub https?://\S+ \(org/x: ConnectionError: no route to host\)"):
        resolve_encoder("org/x")


def test_a_gguf_file_is_converted_once_for_all_who_ask_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    carry_gguf(monkeypatch, tmp_path)
    calls: list[Path] = []

    def slow_convert(source: Path, target: Path) -> None:
        calls.append(source)
        time.sleep(0.2)
        model_at(target)

    monkeypatch.setattr(models, "_convert", slow_convert)
    found: list[Path] = []
    askers = [threading.Thread(target=lambda: found.append(resolve_rewriter("small"))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(timeout=10)
    assert found == [tmp_path / "cache" / "cohyde" / "models" / "small"] * 4
    assert len(calls) == 1
    assert resolve_rewriter("small") == found[0]
    assert len(calls) == 1


def test_a_conversion_that_dies_leaves_nothing_that_looks_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    carry_gguf(monkeypatch, tmp_path)

    def dies_halfway(source: Path, target: Path) -> None:
        model_at(target)
        raise RuntimeError("killed")

    monkeypatch.setattr(models, "_convert", dies_halfway)
    with pytest.raises(RuntimeError, match="killed"):
        resolve_rewriter("small")
    target = tmp_path / "cache" / "cohyde" / "models" / "small"
    assert not target.exists()

    def succeeds(source: Path, target: Path) -> None:
        assert not target.exists(), "the leftovers of the dead conversion are gone"
        model_at(target)

    monkeypatch.setattr(models, "_convert", succeeds)
    assert resolve_rewriter("small") == target


def test_waiting_for_another_conversion_has_a_deadline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    carry_gguf(monkeypatch, tmp_path)
    monkeypatch.setattr(models, "CONVERSION_TIMEOUT_S", 0.1)
    folder = tmp_path / "cache" / "cohyde" / "models"
    folder.mkdir(parents=True)
    with FileLock(folder / ".small.lock"), pytest.raises(InputError, match="still being converted by another process"):
        resolve_rewriter("small")


def test_an_explicit_precision_stays() -> None:
    assert native_precision("bfloat16") == "bfloat16"
    assert native_precision("float32") == "float32"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("fpu avx512f", "float32"), ("", "float32")],
)
def test_auto_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(models, "CPU_INFO", cpuinfo)
    assert native_precision("auto") == expected


def test_auto_precision_is_bfloat16_on_cuda_and_float32_without_cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert native_precision("auto") == "bfloat16"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert native_precision("auto") == "float32"
