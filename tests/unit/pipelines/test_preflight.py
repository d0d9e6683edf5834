from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.errors import InputError
from configs.load import load
from configs.schema import Config
from pipelines import preflight
from pipelines.preflight import Machine, check, snapshots_gb, this_machine

ROOT = Path(__file__).parents[3]
ROOMY = Machine(cores=2, memory_gb=24, free_memory_gb=23, free_disk_gb=50, gpus=0, python=(3, 11))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder of 2 MB; the machine counts no GPU and is not asked for its processor."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    monkeypatch.setattr(preflight, "native_precision", lambda setting: "float32")
    return folder


def configured(model: Path, *overrides: str, file: str | None = None) -> Config:
    path = str(ROOT / "configs" / file) if file else None
    return load(path, [f"encoder.model={model}", f"rewriter.model={model}", f"run_dir={model.parent / 'run'}", *overrides])


def refusal(config: Config, cluster: dict[str, float] | None = None, machine: Machine = ROOMY) -> str:
    with pytest.raises(InputError) as caught:
        check(config, cluster, machine)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_plan_is_told_with_its_sums(model: Path) -> None:
    # Defaults: CPUs 1 + 1 + 1 + 0.5 + 0.5; memory 2.5 + 2.5 + 3.5 + 1.5 + 1.5 + 0.4 object store + 1.5 Ray and driver.
    lines = check(configured(model), None, ROOMY)
    text = "\n".join(lines)
    assert "sum               4.0 of 8 CPUs, 0.0 of 0 GPUs, 13.4 of 24.0 GB" in text
    assert "8 logical CPUs on 2 cores" in text
    assert "rewriter_trainer  1.0 CPUs  0.0 GPUs   2 threads   3.5 GB" in text
    assert f"encoder: {model} (0.00 GB)" in text
    assert "note" not in text


@pytest.mark.parametrize("file", ["demo.yaml", "rounds.yaml", "smoke.yaml"])
def test_the_shipped_configurations_fit_the_smallest_machine_and_cluster(model: Path, file: str) -> None:
    config = configured(model, file=file)
    small = replace(ROOMY, memory_gb=12, free_memory_gb=12, free_disk_gb=10)
    check(config, None, small)
    check(config, {"CPU": 2.0, "memory": 9e9, "object_store_memory": 3e9}, small)


def test_the_gpu_configuration_needs_one_gpu(model: Path) -> None:
    config = configured(model, file="gpu.yaml")
    big = Machine(cores=16, memory_gb=128, free_memory_gb=120, free_disk_gb=200, gpus=1, python=(3, 12))
    assert "1.0 of 1 GPUs" in "\n".join(check(config, None, big))
    assert "placement.*.gpus=1 exceed the 0 GPUs of this machine" in refusal(config, None, replace(big, gpus=0))


def test_too_few_cpus_leave_none_for_hidden_tasks(model: Path) -> None:
    check(configured(model, "placement.embedded_cpus=5"), None, ROOMY)
    text = refusal(configured(model, "placement.embedded_cpus=4"))
    assert "placement.*.cpus=4 and 1 to spare exceed the 4 CPUs of this machine; raise placement.embedded_cpus" in text
    text = refusal(configured(model), {"CPU": 2.0, "memory": 64e9})
    assert "exceed the 2 CPUs of the cluster; start its head with more" in text


def test_too_little_memory(model: Path) -> None:
    assert "need 13.4 GB, this machine has 13.0 GB" in refusal(configured(model), None, replace(ROOMY, memory_gb=13))
    assert "need 13.4 GB, the cluster has 9.0 GB" in refusal(
        configured(model), {"CPU": 8, "memory": 6e9, "object_store_memory": 3e9}
    )


def test_memory_that_others_use_now_is_a_note(model: Path) -> None:
    lines = check(configured(model), None, replace(ROOMY, free_memory_gb=5))
    assert any("only 5.0 of the 13.4 GB are free now" in line for line in lines)


def test_more_threads_than_cores_is_a_note(model: Path) -> None:
    lines = check(configured(model, "placement.rewriter.threads=16"), None, ROOMY)
    assert "note: rewriter use more threads than the 2 cores there are; that is slower, not faster" in lines


def test_too_little_disk(model: Path) -> None:
    text = refusal(configured(model), None, replace(ROOMY, free_disk_gb=0.5))
    assert text.startswith(f"run_dir={model.parent / 'run'}: 0.5 GB free") and "1.1 GB needed" in text
    lines = check(configured(model, "storage_path=s3://bucket/run"), None, replace(ROOMY, free_disk_gb=0.5))
    assert any("under s3://bucket/run" in line for line in lines)


def test_snapshots_are_summed_over_versions_and_arms() -> None:
    # CoHyDE and the encoder alone: 2 arms x 4 versions x 4.5 x 0.1; the rewriter once, and 2 arms x 3 adapters x 0.2.
    assert snapshots_gb(Config(), encoder_gb=0.1, rewriter_gb=1.0) == pytest.approx(3.6 + 1.0 + 1.2)
    alone = load(None, ["loop.baselines=[]", "loop.units=1"])
    assert snapshots_gb(alone, encoder_gb=0.1, rewriter_gb=1.0) == pytest.approx(0.9 + 1.2)


@pytest.mark.parametrize(("python", "named"), [((3, 10), "3.10"), ((3, 15), "3.15")])
def test_the_wrong_python(model: Path, python: tuple[int, int], named: str) -> None:
    assert f"Python {named} is not supported; run with 3.11 to 3.14" in refusal(
        configured(model), None, replace(ROOMY, python=python)
    )


def test_a_machine_without_vllm(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    assert "engine: transformers (vLLM is not installed here" in "\n".join(check(configured(model), None, ROOMY))
    assert "rewriter.engine=vllm, but vLLM is not installed" in refusal(configured(model, "rewriter.engine=vllm"))


def test_a_model_that_resolves_nowhere_is_found_before_anything_starts(model: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "deep" / "model"
    assert f"encoder.model='{missing}' resolves nowhere" in refusal(configured(model, f"encoder.model={missing}"))


def test_this_machine_is_measured_where_the_run_will_be(tmp_path: Path) -> None:
    machine = this_machine(tmp_path / "not" / "there" / "yet")
    assert machine.cores >= 1
    assert 0 < machine.free_memory_gb <= machine.memory_gb
    assert machine.free_disk_gb > 0
