"""Whether a run directory is free, or holds an earlier part of the run that is asked for.

Invariant: nothing here writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from actors.core.types import InputError
from actors.run_dir import CONFIG_FILE
from configs.schema import Config

OURS = ("logs", ".lock")
"""What stands in a run directory before its configuration does."""

FREE_FIELDS = ("run_dir", "placement.", "loop.stage_timeout_s", "loop.stall_timeout_s", "loop.max_failures")
"""Fields that may differ when a run is resumed: where and how patiently it runs, not what it computes."""


def check_run_dir(run_dir: Path, config: Config) -> bool:
    """Whether ``run_dir`` holds an earlier part of this very run (then it is resumed); False where it is new or empty.

    Raises ``InputError`` where it holds the run of another config (naming the first fields that differ) or something else.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"run_dir={run_dir}: not a directory; choose another run_dir")
    saved_file = run_dir / CONFIG_FILE
    if not saved_file.exists():
        if run_dir.exists() and any(entry.name not in OURS for entry in run_dir.iterdir()):
            raise InputError(f"run_dir={run_dir}: not empty and not a run (no {CONFIG_FILE}); choose another run_dir")
        return False
    try:
        loaded = yaml.safe_load(saved_file.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"run_dir={run_dir}: {CONFIG_FILE} cannot be read; choose another run_dir") from error
    saved, wanted = _flat(loaded), _flat(config.model_dump(mode="json"))
    differing = [
        f"{name} is {saved.get(name)!r} there and {wanted.get(name)!r} here"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name) and not name.startswith(FREE_FIELDS)
    ]
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise InputError(
            f"run_dir={run_dir} holds the run of another config: {'; '.join(differing[:3])}{more};"
            " choose another run_dir, or repeat the old settings to resume it"
        )
    return True


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
