"""Commands on a catalog of one's own: ``cohyde catalog sync|drop|show|label|lint``.

Invariants: a dry run writes nothing; what is printed of a plan is bounded, its counts are not; names and texts of tools are printed
as they are, never as markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actors.core.types import InputError, Split
from pipelines.ingestion import labels
from pipelines.ingestion.lint import lint_command
from pipelines.ingestion.plan import Change, Plan
from pipelines.ingestion.store import Store

if TYPE_CHECKING:
    from pipelines.ingestion.sync import Told

SHOWN = 20
"""Tools, or notes, of a kind that are printed; the rest is counted."""
WIDTH_WITHOUT_TERMINAL = 160
NOTHING_WRITTEN = "dry run: nothing was written"

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")]
ServedRun = Annotated[str | None, typer.Option(metavar="RUN_DIR", help="Bring the catalog that this run serves to it, too.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The catalog folder.")]

catalog_app = typer.Typer(no_args_is_help=True, help="A catalog of your own, kept in step with where its tools are described.")


@catalog_app.command("sync")
def sync(
    catalog: Annotated[Path, typer.Option(metavar="DIR", help="The catalog folder; made where there is none.")],
    source: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="[NAME=]KIND:LOCATION, as shop=openapi:shop.yaml; by default all known ones."),
    ] = None,
    dry_run: DryRun = False,
    run: ServedRun = None,
) -> None:
    """Read sources, and bring the catalog to what they say now."""
    from pipelines.evaluate import progress_bars
    from pipelines.ingestion import sync as work

    store = Store(catalog)
    with progress_bars() as watch:
        if dry_run:
            reading = work.read_sources(store, source or [], watch)
            _print_plan(reading.plan, reading.notes)
            _say(NOTHING_WRITTEN)
            return
        with store.lock():
            reading = work.read_sources(store, source or [], watch)
            start = time.monotonic()
            embedded = work.embed(reading, watch)
            took = time.monotonic() - start
            told = work.tell_run(store, reading.plan, run) if run else None
            work.commit(store, reading)
    _print_plan(reading.plan, reading.notes)
    _print_size(store)
    _say(f"embedded {_count(embedded, 'text')} in {took:.1f} s" if embedded else "embedded nothing: every text's vector is kept")
    _print_told(run, told)
    _warn_of_lost_labels(store)


@catalog_app.command("drop")
def drop(
    catalog: Folder,
    source: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Names of sources, as `show` tells them.")],
    dry_run: DryRun = False,
    run: ServedRun = None,
) -> None:
    """Forget sources, and take their tools out; their labelled queries are kept for when they come back."""
    from pipelines.ingestion import sync as work

    store = Store(catalog)
    if dry_run:
        _print_plan(work.read_dropped(store, source).plan, ())
        _say(NOTHING_WRITTEN)
        return
    # The lock makes the folder, which a name that is mistyped must not leave behind.
    work.read_dropped(store, source)
    with store.lock():
        reading = work.read_dropped(store, source)
        told = work.tell_run(store, reading.plan, run) if run else None
        work.commit(store, reading)
    _print_plan(reading.plan, ())
    _print_size(store)
    _print_told(run, told)
    _warn_of_lost_labels(store)


@catalog_app.command("show")
def show(
    catalog: Folder, tool_id: Annotated[str | None, typer.Argument(metavar="[TOOL_ID]", help="One tool, whole, as JSON.")] = None
) -> None:
    """The sources of a catalog, or one of its tools."""
    store = Store(catalog)
    if tool_id is not None:
        for source, entry in store.entries():
            if entry.tool.tool_id == tool_id:
                tool = entry.tool
                about = {"tool_id": tool_id, "source": source, "name": tool.name, "title": tool.title, "namespace": tool.namespace}
                about |= {"description": tool.description, "content_hash": entry.content_hash}
                print(json.dumps(about | {"input_schema": entry.input_schema}, indent=2, ensure_ascii=False))
                return
        raise InputError(f"{tool_id}: not in the catalog {catalog}")
    known = store.sources()
    if not known:
        raise InputError(f"DIR={catalog}: holds no catalog; make one with `cohyde catalog sync KIND:LOCATION --catalog {catalog}`")
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("source", "tools", "read", "whole", "from"):
        table.add_column(name, justify="right" if name == "tools" else "left", overflow="fold")
    for name, about_it in known.items():
        row = (name, f"{about_it.tools:,}", about_it.read, "yes" if about_it.whole else "no", about_it.spec)
        table.add_row(*map(escape, row))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)).print(table)
    _warn_of_lost_labels(store)


@catalog_app.command("label")
def label(
    catalog: Folder,
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", help="What somebody asked.")] = None,
    tool_id: Annotated[list[str] | None, typer.Argument(metavar="[TOOL_ID]...", help="The tools that answer it.")] = None,
    file: Annotated[Path | None, typer.Option(help="Lines of query, tab, tool ids parted by commas.")] = None,
) -> None:
    """Add labelled queries, for training and measuring; each goes into one of the splits by itself."""
    if (file is None) == (query is None) or (query is not None and not tool_id):
        raise InputError("label: give a query and the ids of the tools that answer it, or --file FILE with many")
    given = labels.read_file(file) if file else [labels.Label(query or "", tuple(tool_id or ()), "QUERY")]
    store = Store(catalog)
    tools = store.records().keys()
    if not tools:
        raise InputError(f"DIR={catalog}: holds no tools; make a catalog with `cohyde catalog sync` first")
    with store.lock():
        counts = labels.add(catalog, given, tools)
    _say(f"{catalog}: {_count(sum(counts.values()), 'labelled query', 'labelled queries')} ({_listed(counts)})")


catalog_app.command("lint")(lint_command)


def _print_plan(plan: Plan, notes: Sequence[str]) -> None:
    for name, changes in (("added", plan.added), ("changed", plan.changed), ("removed", plan.removed)):
        if changes:
            _say(f"{name} {len(changes):,}")
            _cut([f"  {_line(change)}" for change in changes])
    if notes:
        _say(f"notes {len(notes):,}")
        _cut([f"  {note}" for note in notes])
    for refusal in plan.refusals:
        _say(f"refused: {refusal}")
    _say(f"{len(plan.added):,} added, {len(plan.changed):,} changed, {len(plan.removed):,} removed, {plan.unchanged:,} unchanged")


def _print_size(store: Store) -> None:
    known = store.sources()
    _say(f"catalog {store.folder}: {sum(s.tools for s in known.values()):,} tools of {_count(len(known), 'source')}")


def _print_told(run: str | None, told: Told | None) -> None:
    if told:
        _say(f"run {run}: {told.upserts:,} put in or changed, {told.deletes:,} taken out; a server follows within seconds")


def _line(change: Change) -> str:
    return f"{change.tool_id}: {change.why}"


def _cut(lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        _say(line)
    if len(lines) > SHOWN:
        _say(f"  and {len(lines) - SHOWN:,} more")


def _warn_of_lost_labels(store: Store) -> None:
    from pipelines.catalogs.synced import labelled

    _, lost = labelled(store.folder, set(store.records()))
    if lost:
        shown = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        _say(f"{_count(len(lost), 'labelled query', 'labelled queries')} left out, for their tools are not in the catalog: {shown}")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _listed(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
