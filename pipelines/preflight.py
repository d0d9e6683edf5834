"""Does the configuration fit the machine or the cluster? Asked before any actor starts.

Invariants: starts nothing and imports no ray; what does not fit ends in one ``InputError`` line with the remedy; what fits is
told as the placement plan, line by line. CPUs are logical (a scheduler's number); memory and disk are compared in real bytes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from actors.models import native_precision, resolve_encoder, resolve_rewriter
from configs.errors import InputError
from configs.schema import Config, Placement

PYTHONS = ((3, 11), (3, 14))
"""The oldest and the newest Python that every library has wheels for."""
DRIVER_AND_RAY_GB = 1.5
"""Resident memory of the driver and of Ray's own processes, measured on an embedded cluster."""
SPARE_CPUS = 1.0
"""Ray Data runs hidden tasks that ask for one whole CPU and wait for ever, silently, where none is left."""
SCRATCH_GB = 1.0
"""Disk for the run's records, logs and Ray's session folder."""
ENDLESS_UNITS = 20
"""Units of a run without an end that are on disk at once, at most."""

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """What this process may use; memory is the container's limit where that is lower than the machine's."""

    cores: int
    memory_gb: float
    free_memory_gb: float
    free_disk_gb: float
    gpus: int
    python: tuple[int, int]


def this_machine(folder: Path) -> Machine:
    """The machine this runs on; disk is that of ``folder`` (of its nearest parent that exists)."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    memory = psutil.virtual_memory()
    total = float(memory.total)
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdigit():
        total = min(total, float(limit.read_text()))
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=total / GB,
        free_memory_gb=min(total, float(memory.available)) / GB,
        free_disk_gb=shutil.disk_usage(existing).free / GB,
        gpus=_gpus(),
        python=sys.version_info[:2],
    )


def check(config: Config, cluster_resources: dict[str, float] | None, machine: Machine | None = None) -> list[str]:
    """The placement plan, one line per fact.

    ``cluster_resources`` is what Ray reports of the cluster that the run joins, or None where the run starts one on this machine.
    Raises InputError where Python, a model, the engine, CPUs, GPUs, memory or disk do not fit.
    """
    machine = machine or this_machine(_storage(config) or Path(config.run_dir))
    if not PYTHONS[0] <= machine.python <= PYTHONS[1]:
        found, oldest, newest = (".".join(map(str, version)) for version in (machine.python, *PYTHONS))
        raise InputError(f"Python {found} is not supported; run with {oldest} to {newest}")
    lines = [
        f"machine: {machine.cores} cores, {machine.memory_gb:.1f} GB memory ({machine.free_memory_gb:.1f} free),"
        f" {machine.free_disk_gb:.0f} GB disk free, {machine.gpus or 'no'} GPU"
    ]
    lines += _engine(config)
    lines += _placement(config, cluster_resources, machine)
    return lines + _disk(config, machine)


def _engine(config: Config) -> list[str]:
    installed = importlib.util.find_spec("vllm") is not None
    if config.rewriter.engine == "vllm" and not installed:
        raise InputError("rewriter.engine=vllm, but vLLM is not installed; set rewriter.engine=auto or run make install EXTRA=cpu")
    uses_vllm = config.rewriter.engine != "transformers" and installed
    why = "" if uses_vllm or config.rewriter.engine == "transformers" else " (vLLM is not installed here, so rewriting is slower)"
    return [f"engine: {'vllm' if uses_vllm else 'transformers'}{why}; precision: {native_precision(config.precision)}"]


def _placement(config: Config, cluster: dict[str, float] | None, machine: Machine) -> list[str]:
    """Compare the plan's sums with what there is."""
    plan = actors_of(config)
    cpus = round(sum(actor.cpus for actor in plan.values()), 6)
    gpus = sum(actor.gpus for actor in plan.values())
    memory = sum(actor.memory_gb for actor in plan.values()) + config.placement.object_store_mb / 1000 + DRIVER_AND_RAY_GB
    if cluster is None:
        where, has_cpus, has_gpus = "this machine", float(config.placement.embedded_cpus), float(machine.gpus)
        has_memory = machine.memory_gb
        lines = [f"cluster: started for this run, {has_cpus:.0f} logical CPUs on {machine.cores} cores"]
    else:
        where, has_cpus, has_gpus = "the cluster", cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
        has_memory = (cluster.get("memory", 0.0) + cluster.get("object_store_memory", 0.0)) / GB
        lines = [f"cluster: joined, {has_cpus:.0f} CPUs, {has_gpus:.0f} GPUs, {has_memory:.1f} GB memory"]
    lines += [
        f"  {name:<16} {actor.cpus:4.1f} CPUs {actor.gpus:4.1f} GPUs {actor.threads:3d} threads {actor.memory_gb:5.1f} GB"
        for name, actor in plan.items()
    ]
    lines.append(
        f"  {'sum':<16} {cpus:4.1f} of {has_cpus:.0f} CPUs, {gpus:.1f} of {has_gpus:.0f} GPUs, {memory:.1f} of {has_memory:.1f} GB"
    )
    if cpus + SPARE_CPUS > has_cpus:
        remedy = "raise placement.embedded_cpus" if cluster is None else "start its head with more (ray start --head --num-cpus=8)"
        raise InputError(
            f"placement.*.cpus={cpus:g} and {SPARE_CPUS:g} to spare exceed the {has_cpus:g} CPUs of {where};"
            f" {remedy} or lower placement.<actor>.cpus"
        )
    if gpus > has_gpus:
        raise InputError(
            f"placement.*.gpus={gpus:g} exceed the {has_gpus:g} GPUs of {where}; lower placement.<actor>.gpus (0 is the CPU)"
        )
    if memory > has_memory:
        raise InputError(
            f"placement.*.memory_gb, the object store and Ray need {memory:.1f} GB, {where} has {has_memory:.1f} GB;"
            " choose a smaller model or configuration, or lower placement.<actor>.memory_gb if it is set too high"
        )
    if cluster is None and memory > machine.free_memory_gb:
        lines.append(f"note: only {machine.free_memory_gb:.1f} of the {memory:.1f} GB are free now; close other programs")
    crowded = [name for name, actor in plan.items() if actor.threads > machine.cores]
    if cluster is None and crowded:
        lines.append(
            f"note: {', '.join(crowded)} use more threads than the {machine.cores} cores there are; that is slower, not faster"
        )
    return lines


def actors_of(config: Config) -> dict[str, Placement]:
    """The long-lived actors and what each is given."""
    plan = config.placement
    found = {name: value for name in type(plan).model_fields if isinstance(value := getattr(plan, name), Placement)}
    if config.loop.mode == "continual":
        found["gate's scorer"] = plan.scorer
        if config.loop.start_from:
            # Started where the release has a reranker that is used, which is not known before it is opened.
            found["gate's reranker"] = plan.scorer
    return found


def _disk(config: Config, machine: Machine) -> list[str]:
    """Compare what the run will publish with the free disk; a remote storage path is not asked."""
    encoder, rewriter = resolve_encoder(config.encoder.model), resolve_rewriter(config.rewriter.model)
    lines = [f"encoder: {encoder} ({_weights_gb(encoder):.2f} GB)", f"rewriter: {rewriter} ({_weights_gb(rewriter):.2f} GB)"]
    needed = snapshots_gb(config, _weights_gb(encoder), _weights_gb(rewriter)) + SCRATCH_GB
    told = f"disk: about {needed:.1f} GB of snapshots and records under {config.storage_path or config.run_dir}"
    if _storage(config) is None:
        return [*lines, f"{told} (free space there unknown)"]
    free = machine.free_disk_gb
    if needed > free:
        raise InputError(f"run_dir={config.run_dir}: {free:.1f} GB free, {needed:.1f} GB needed; free some or set run_dir")
    return [*lines, told]


def _storage(config: Config) -> Path | None:
    """Where snapshots go, if that is a folder of this machine."""
    path = (config.storage_path or config.run_dir).removeprefix("file://")
    return None if "://" in path else Path(path)


def snapshots_gb(config: Config, encoder_gb: float, rewriter_gb: float) -> float:
    """Upper estimate of what the snapshots of all arms take.

    Each encoder version is a learner's state (weights and two Adam moments) and a retriever (weights, index); the rewriter is one
    full warm start and, per version, an adapter with its optimizer state, taken as a fifth of the weights.
    """
    encoder_arms = (not config.encoder.frozen) + ("encoder_alone" in config.loop.baselines)
    rewriter_arms = 1 + ("qta" in config.loop.baselines)
    units = config.loop.units or ENDLESS_UNITS
    versions = units + 1
    return encoder_arms * versions * 4.5 * encoder_gb + rewriter_gb * (1 + rewriter_arms * units * 0.2)


def _weights_gb(folder: Path) -> float:
    files = list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))
    return sum(file.stat().st_size for file in files) / GB


def _gpus() -> int:
    """GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()
