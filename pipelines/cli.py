"""The command line: ``cohyde JOB ...``; every job also runs as ``python -m pipelines.JOB ...``.

Invariants: what the user got wrong is one line on stderr and exit code 2; Ctrl-C and SIGTERM end everything and give 130 and 143;
any other failure is 1, with its traceback; the libraries' log goes to files of the run directory.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import yaml
from rich.console import Console

from configs.load import load
from configs.schema import Config
from pipelines import keys, operate
from pipelines.command_line import library_logs, run_app
from pipelines.ingestion.commands import catalog_app
from pipelines.run_dirs import check_run_dir

WIDTH_WITHOUT_TERMINAL = 120
INTERRUPTED = 130
"""What the command line's library makes of Ctrl-C."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _cohyde() -> None:
    """CoHyDE: a query rewriter and a dense encoder, trained against each other over a catalog of tools."""


@app.command()
def cotrain(
    config: Annotated[str, typer.Option(help="YAML file, as configs/demo.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides, as rewriter.samples_per_query=8.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print resolved config and placement plan; start nothing.")] = False,
) -> None:
    """Run, or resume, a co-training run: rounds with their comparison and report, or on a query log for as long as it lasts."""
    console = _console()
    resolved = load(config, overrides or [])
    if dry_run:
        _show_plan(resolved, console)
        return
    known = check_run_dir(Path(resolved.run_dir), resolved)
    library_logs(Path(resolved.run_dir) / "logs")
    if resolved.loop.mode == "continual":
        from pipelines import continual

        continual.run(resolved, known, console)
        return
    from pipelines import rounds

    page = rounds.run(resolved, known, console)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def evaluate(context: typer.Context) -> None:
    """Measure a release, or the frozen encoder, on a benchmark (see: cohyde evaluate --help)."""
    from pipelines import evaluate as command

    raise typer.Exit(command.main(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def report(context: typer.Context) -> None:
    """Write a run directory's report anew (see: cohyde report --help)."""
    from pipelines import report as command

    raise typer.Exit(command.main(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def serve(context: typer.Context) -> None:
    """Serve a release on this machine (see: cohyde serve --help)."""
    from pipelines import serve as command

    raise typer.Exit(command.main(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def simulate(context: typer.Context) -> None:
    """Replay queries as a query log, to try the continual mode (see: cohyde simulate --help)."""
    from pipelines import simulate as command

    raise typer.Exit(command.main(context.args))


app.command()(operate.status)
app.add_typer(operate.releases_app, name="releases")
app.add_typer(operate.log_app, name="log")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(catalog_app, name="catalog")


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH_WITHOUT_TERMINAL)


def _show_plan(config: Config, console: Console) -> None:
    from pipelines import preflight

    console.print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), highlight=False, markup=False)
    for line in preflight.check(config, None):
        console.print(line, highlight=False, markup=False)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    code = run_app(app, "cohyde", arguments)
    if code == INTERRUPTED:
        print("cohyde: interrupted; run the same command again to resume", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
