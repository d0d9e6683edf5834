"""Serve a run on this machine: ``python -m pipelines.serve``, the whole of it in one command.

Invariants: the server listens on the loopback address; what is served is said before it is; nothing is left when it ends.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from actors import remote
from actors.core.types import InputError
from actors.run_dir import FROZEN, OpenedRelease, open_release
from configs.schema import Config, PlacementConfig
from configs.serving import ServingConfig, parse
from pipelines.command_line import library_logs, run_app
from pipelines.evaluate import progress_bars
from pipelines.frozen_run import FROZEN_RUN, catalog_run, ensure_catalog, prepare_catalog, prepare_frozen
from serve_app import haproxy, plan

RUNS = ("runs/continual", "runs/demo")
"""Where a release is looked for when no run is named, in this order."""
STATE = "serving"
"""In the run directory: the server's lock, logs and the journal of its catalog."""


def find_run() -> Path | None:
    """The newest run of the repository's own configurations that has a release; None where there is none."""
    for name in RUNS:
        try:
            open_release(name)
        except InputError:
            continue
        return Path(name)
    return None


def told(run: Path, release: OpenedRelease) -> str:
    """One line: what is about to be served."""
    if release.name == FROZEN:
        return f"the frozen models in {run}: no trained ones were released there"
    return f"release {release.name} of {run}: rewriter {release.rewriter}, retriever {release.retriever}"


def serve(settings: ServingConfig, port: int, console: Console) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises InputError for what the user can mend."""
    # Ray Serve reads its environment when it is imported.
    os.environ.update({name: value for name, value in haproxy.environment().items() if name not in os.environ})
    from serve_app import app

    state = Path(settings.run) / STATE
    placement = PlacementConfig(object_store_mb=100)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    remote.quieten("ray.serve")
    with remote.cluster(Config(placement=placement), state):
        try:
            app.start(settings, port)
            console.print(f"serving at http://127.0.0.1:{port}   (the page; Ctrl-C ends it)", highlight=False)
            sys.stdout.flush()
            ended.wait()
        finally:
            # Ray tells of its own controller's end as if it were a fault.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                app.stop()
            haproxy.remove(os.environ)


command_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@command_app.command()
def command(
    settings: Annotated[list[str] | None, typer.Argument(help="Settings of configs/serving.py, as replicas=2.")] = None,
    run: Annotated[str | None, typer.Option(help="Run directory; by default the newest release, else the frozen models.")] = None,
    catalog: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Serve this folder of `cohyde catalog sync` by the frozen models.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback address.", min=1, max=65_535)] = 8000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deployed; start and write nothing.")] = False,
) -> None:
    """Serve a release on this machine: HTTP API and page."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    pairs = _pairs(settings or [])
    run = pairs.pop("run", run)
    if run and catalog:
        raise InputError(
            f"--catalog {catalog}: a run serves its own catalog; leave one of the two out, or bring the run's to the folder:"
            f" cohyde catalog sync --catalog {catalog} --run {run}"
        )
    found = Path(run) if run else None if catalog else find_run()
    if dry_run:
        _show_plan(found, catalog_run(catalog) if catalog else Path(FROZEN_RUN), pairs, console)
        return
    if found is None:
        if catalog is None:
            console.print(f"no release was found in {' or '.join(RUNS)}: preparing the frozen models (once)", highlight=False)
        with progress_bars() as watch:
            found = prepare_catalog(catalog, watch) if catalog else prepare_frozen(Path(FROZEN_RUN), "aws", "demo", watch)
    given = parse({"run": str(found), **pairs})
    ensure_catalog(given.run)
    console.print(f"serving {told(found, open_release(given.run, '--run'))}", highlight=False)
    library_logs(found / STATE / "logs")
    serve(given, port, console)


def _show_plan(run: Path | None, frozen: Path, settings: dict[str, Any], console: Console) -> None:
    """``frozen``: where the frozen models are, or would be prepared, if there is no run."""
    given = parse({"run": str(run or frozen), **settings})
    if run is None and not Path(given.run).is_dir():
        told_of = f"nothing to serve was trained: the frozen models would be prepared in {given.run} first"
        console.print(told_of, highlight=False, soft_wrap=True)
        return
    release = open_release(given.run, "--run")
    for line in (f"would serve {told(Path(given.run), release)}", *plan.told(given, release)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _pairs(texts: list[str]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text}: settings are given as name=value")
        part, _, rest = name.partition(".")
        if rest:
            pairs.setdefault(part, {})[rest] = value
        else:
            pairs[name] = value
    return pairs


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(command_app, "pipelines.serve", arguments)


if __name__ == "__main__":
    sys.exit(main())
