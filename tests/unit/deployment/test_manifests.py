"""The Kubernetes manifests hold together: their entry points are run dry, their sums compared with the plan, Ray's schema asked."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors import catalog_file
from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog
from actors.releases import Release, Releases
from actors.run_dir import RERANKER, open_release
from configs.load import load, save
from configs.serving import parse
from pipelines import cli, preflight
from pipelines import serve as serve_command
from pipelines.files import write_json
from serve_app import keys, plan

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "configs" / "kuberay"
IMAGE_ROOT = "/opt/cohyde"
GB = {"Mi": 2**20 / 1e9, "Gi": 2**30 / 1e9}
RAY_SHARE = 0.95
"""Of a pod's memory, what is left to actors and the object store beside Ray's own processes on it."""


def manifest(name: str) -> dict[str, Any]:
    [content] = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


JOB, SERVICE = manifest("rayjob-continual.yaml"), manifest("rayservice.yaml")
CLUSTERS = {"job": JOB["spec"]["rayClusterSpec"], "service": SERVICE["spec"]["rayClusterConfig"]}
SERVE = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
[APPLICATION] = SERVE["applications"]


def pods(cluster: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], int, int]]:
    """(pod, its Ray container, fewest and most of it), the head first."""
    head = cluster["headGroupSpec"]["template"]["spec"]
    yield head, head["containers"][0], 1, 1
    for group in cluster["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        yield pod, pod["containers"][0], group["minReplicas"], group["maxReplicas"]


def gigabytes(container: dict[str, Any]) -> float:
    text = container["resources"]["limits"]["memory"]
    return float(text[:-2]) * GB[text[-2:]]


def workers(cluster: dict[str, Any], most: bool) -> tuple[float, float]:
    """CPUs and gigabytes of all workers together."""
    counted = [(one, largest if most else least) for _, one, least, largest in [*pods(cluster)][1:]]
    cpus = sum(float(one["resources"]["limits"]["cpu"]) * count for one, count in counted)
    return cpus, sum(gigabytes(one) * count for one, count in counted)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1_000))
    return folder


def entry(model: Path) -> list[str]:
    """Arguments of the job's entry point, with files of the image found here and models that need no download."""
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "pipelines.cotrain"]
    here = [word.replace(IMAGE_ROOT, str(ROOT)) for word in words[3:]]
    return [*here, f"encoder.model={model}", f"rewriter.model={model}"]


@pytest.fixture
def run_dir(tmp_path: Path, model: Path) -> Path:
    """A run that has released, without weights: what a dry run looks at."""
    run_dir = tmp_path / "run"
    config = load(str(ROOT / "configs" / "base.yaml"), [f"encoder.model={model}", f"rewriter.model={model}"])
    save(config, run_dir / "config.yaml")
    store = SnapshotStore(str(run_dir / "snapshots"))
    catalog_file.publish(store, Catalog(()))
    for kind in ("retriever", "rewriter", RERANKER):
        store.publish(kind, 0, lambda directory: None, {})
    releases = Releases(store, str(run_dir / "releases"))
    releases.add(Release(0, 0, 0, "hash", 0.3, {}, asdict(Limits())))
    releases.promote(0, "gate", "first")
    return run_dir


@pytest.mark.parametrize("name", ["rayjob-continual.yaml", "rayservice.yaml", "storage.yaml"])
def test_a_manifest_names_its_kind(name: str) -> None:
    content = manifest(name)
    expected = {"rayjob-continual.yaml": "RayJob", "rayservice.yaml": "RayService", "storage.yaml": "PersistentVolumeClaim"}
    assert content["kind"] == expected[name]
    assert content["apiVersion"] == ("v1" if name == "storage.yaml" else "ray.io/v1")
    assert content["metadata"]["name"]


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_ray_is_the_version_that_the_project_pins(cluster: dict[str, Any]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    [pinned] = [one.partition("==")[2] for one in extras["run"] if one.startswith("ray[")]
    assert cluster["rayVersion"] == pinned


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_every_pod_has_the_storage_a_plain_user_and_whole_requests(cluster: dict[str, Any]) -> None:
    claim = manifest("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod, container, least, most in pods(cluster):
        assert 1 <= least <= most
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["envFrom"] == [{"secretRef": {"name": "cohyde-storage"}}]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        [mount], [volume] = container["volumeMounts"], pod["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], "/data")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert "env" not in container, "secrets come from the Secret"
    # Actors and replicas belong on workers.
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_jobs_entry_point_runs_dry(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # A dry run compares with this machine, whose size is not the matter here.
    machine = preflight.Machine(cores=2, memory_gb=64, free_memory_gb=64, free_disk_gb=50, gpus=0, python=(3, 11))
    monkeypatch.setattr(preflight, "this_machine", lambda folder: machine)
    assert cli.main(["cotrain", *entry(model), "placement.embedded_cpus=16", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "storage_path: s3://cohyde/runs/continual" in told
    assert "mode: continual" in told and "gate's scorer" in told


def test_the_jobs_workers_have_room_for_the_placement_plan(model: Path) -> None:
    words = entry(model)
    config = load(words[1], words[2:])
    cpus, memory = workers(CLUSTERS["job"], most=False)
    assert (cpus, memory) == workers(CLUSTERS["job"], most=True), "a run has a fixed number of actors"
    machine = preflight.Machine(cores=4, memory_gb=8, free_memory_gb=8, free_disk_gb=50, gpus=0, python=(3, 11))
    preflight.check(config, {"CPU": cpus, "memory": memory * 1e9 * RAY_SHARE}, machine)
    [largest] = {container["resources"]["limits"]["cpu"] for _, container, *_ in [*pods(CLUSTERS["job"])][1:]}
    assert max(actor.cpus for actor in preflight.actors_of(config).values()) <= float(largest)


def test_training_and_serving_share_their_files(model: Path) -> None:
    config = load(entry(model)[1], entry(model)[2:])
    settings = parse(APPLICATION["args"])
    assert settings.run == config.run_dir
    assert plan.query_log(settings) == Path(config.stream.address)
    assert all(path.startswith("/data/") for path in (settings.run, settings.keys or "", config.stream.address))


def test_the_serve_part_is_one_that_ray_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    deployed = ServeDeploySchema.model_validate(SERVE)
    # Reached from other machines, so only with keys.
    assert deployed.http_options.host == "0.0.0.0" and APPLICATION["args"]["keys"]
    [application] = deployed.applications
    assert application.import_path == "serve_app.app:build"
    [search] = application.deployments
    assert search.name == "Search" and search.autoscaling_config


def test_the_services_entry_point_runs_dry_and_its_workers_have_room(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"run": str(run_dir), "query_log": str(tmp_path / "log"), "keys": str(tmp_path / "keys.json")}
    keys.add(tmp_path / "keys.json", "shop", ["search"], None)
    args = {**APPLICATION["args"], **own}
    assert serve_command.main(["--dry-run", *(f"{name}={value}" for name, value in args.items())]) == 0
    told = capsys.readouterr().out
    assert "would serve release 0" in told and "Reranker" in told
    scaling = APPLICATION["deployments"][0]["autoscaling_config"]
    for most, count in ((False, scaling["min_replicas"]), (True, scaling["max_replicas"])):
        deployed = plan.deployments(parse({**args, "replicas": count}), open_release(str(run_dir)))
        cpus, memory = workers(CLUSTERS["service"], most)
        assert plan.cpus(deployed) <= cpus
        assert sum(one.replicas * one.memory_gb for one in deployed) <= memory * RAY_SHARE


def test_a_dry_run_of_serving_refuses_what_would_not_start(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert serve_command.main(["--dry-run", "--run", str(run_dir), *arguments]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        return line

    assert "no such file" in refused(f"keys={tmp_path / 'keys.json'}")
    (tmp_path / "log").write_text("")
    assert "not a directory" in refused(f"query_log={tmp_path / 'log'}")
    write_json(run_dir / "snapshots" / "retriever" / "0" / "x.json", {})
    (run_dir / "snapshots" / "retriever" / "0" / "READY").unlink()
    assert "holds no retriever 0" in refused()
    assert not (tmp_path / "run" / "serving").exists()
