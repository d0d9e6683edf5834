"""What is wrong with a catalog's tools, before anybody searches it: ``cohyde catalog lint DIR``.

Invariants: findings are a pure function of the tools, in their order, at most one of a kind for a tool (suspicious text: one for
each kind of passage); nothing is changed. An error is text that could command a model; everything else costs quality and is a
warning or a note. Exit code 1 where there is an error, else 0.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from actors.catalog_file import Entry
from actors.core.text import identifier_words
from actors.core.types import InputError, Tool
from actors.interfaces import Progress
from pipelines.catalogs.text import NearCopies, content_stems, stem_frequency
from pipelines.files import write_json
from pipelines.ingestion.poisoning import suspicions
from pipelines.ingestion.store import Store

Severity = Literal["error", "warning", "note"]
NEAR = 0.9
"""Share of words (Jaccard over stems of the text that is embedded) above which two tools count as nearly the same."""
SCHEMA_TOKENS, CHARACTERS_A_TOKEN = 2_000, 4
"""A schema larger than this crowds a model's context; tokens are estimated."""
DESCRIPTION_CHARACTERS = 4_000
SHOWN = 5
"""Findings of a kind that are printed."""

_SAME_REMEDY = "keep one, or say in the first sentence what tells it apart; in training each is a wrong negative of the other"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one tool, and what to do about it."""

    tool_id: str
    kind: str
    severity: Severity
    what: str
    remedy: str


def findings(entries: Sequence[Entry], progress: Progress = lambda done, total: None) -> list[Finding]:
    """Everything that is wrong, tool after tool, then what several tools share; progress in tools."""
    found: list[Finding] = []
    for done, entry in enumerate(entries, start=1):
        found += [*_of_texts(entry.tool), *_of_parameters(entry), *_of_orders(entry)]
        progress(done, len(entries))
    return found + _of_others([entry.tool for entry in entries])


def _of_texts(tool: Tool) -> Iterable[Finding]:
    text = tool.description.strip()
    if not text:
        yield Finding(tool.tool_id, "empty description", "warning", "says nothing", "say in a sentence what it does, and for what")
        return
    stems = content_stems(text)
    names = (" ".join(identifier_words(tool.name)), " ".join(identifier_words(tool.title)))
    if stems <= content_stems(" ".join(names)):
        what = f"says no more than its name: {_cut(text)!r}"
        yield Finding(tool.tool_id, "copied description", "warning", what, "say what it is for, in words that a user would use")
    if len(text) > DESCRIPTION_CHARACTERS:
        what = f"its description has {len(text):,} characters"
        remedy = f"shorten it to {DESCRIPTION_CHARACTERS:,}; its first two sentences are what is searched"
        yield Finding(tool.tool_id, "long description", "note", what, remedy)


def _of_parameters(entry: Entry) -> Iterable[Finding]:
    tool = entry.tool
    silent = [p.name for p in tool.parameters if not p.description.strip()]
    if silent:
        names = ", ".join(silent[:3]) + (", ..." if len(silent) > 3 else "")
        what = f"{len(silent)} of {len(tool.parameters)} parameters are not described ({names})"
        yield Finding(tool.tool_id, "undescribed parameters", "note", what, "give each a description in the input schema")
    tokens = len(json.dumps(entry.input_schema, default=str)) // CHARACTERS_A_TOKEN
    if tokens > SCHEMA_TOKENS:
        what = f"its input schema takes about {tokens:,} tokens"
        remedy = f"leave out rare parameters, or part it into several tools of up to {SCHEMA_TOKENS:,}"
        yield Finding(tool.tool_id, "large schema", "warning", what, remedy)


def _of_orders(entry: Entry) -> Iterable[Finding]:
    for suspicion in suspicions(entry):
        what = f"{suspicion.place} {suspicion.what}: {suspicion.passage!r}"
        remedy = "read it; if it is meant for a model, take the tool out and tell its owner"
        yield Finding(entry.tool.tool_id, "suspicious text", "error", what, remedy)


def _of_others(tools: Sequence[Tool]) -> list[Finding]:
    """Tools that share their text; of the three kinds a tool gets the strongest."""
    found: list[Finding] = []
    taken: set[str] = set()

    def add(groups: Iterable[tuple[Tool, Sequence[str]]], kind: str, what: str, remedy: str) -> None:
        for tool, others in groups:
            if tool.tool_id not in taken:
                more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
                found.append(Finding(tool.tool_id, kind, "warning", f"{what} {others[0]}{more}", remedy))
        taken.update(finding.tool_id for finding in found)

    described = [tool for tool in tools if tool.description.strip()]
    add(_equal(described, lambda tool: tool.document), "duplicate", "is searched by the same text as", _SAME_REMEDY)
    add(_near(described), "near-duplicate", "is searched by nearly the same text as", _SAME_REMEDY)
    remedy = "say in the first sentence what tells it apart"
    add(_equal(described, lambda tool: tool.description), "repeated description", "has the same description as", remedy)
    return found


def _equal(tools: Sequence[Tool], text: Callable[[Tool], str]) -> Iterable[tuple[Tool, Sequence[str]]]:
    groups: dict[str, list[Tool]] = defaultdict(list)
    for tool in tools:
        groups[" ".join(text(tool).lower().split())].append(tool)
    for group in groups.values():
        ids = [tool.tool_id for tool in group[:2]]
        for tool in group if len(group) > 1 else ():
            # Only the first of the others is named: a group may hold hundreds.
            yield tool, [ids[1] if tool.tool_id == ids[0] else ids[0], *[""] * (len(group) - 2)]


def _near(tools: Sequence[Tool]) -> Iterable[tuple[Tool, Sequence[str]]]:
    groups: dict[frozenset[str], list[Tool]] = defaultdict(list)
    for tool in tools:
        groups[content_stems(tool.document)].append(tool)
    texts = list(groups)
    copies = NearCopies(stem_frequency(texts), NEAR)
    near: dict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        for other in copies.matches(text):
            near[number].append(other)
            near[other].append(number)
        copies.add(text)
    for number, text in enumerate(texts):
        elsewhere = [tool.tool_id for other in near[number] for tool in groups[texts[other]]]
        for tool in groups[text]:
            # The same words in another order are nearly the same text too.
            if others := [other.tool_id for other in groups[text] if other is not tool] + elsewhere:
                yield tool, others


def _cut(text: str, characters: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[:characters]}..."


def lint_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A catalog's folder, as `catalog sync` makes it.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all findings here.")] = None,
) -> None:
    """Say what is wrong with a catalog's tools. Exit code 1 where a text could command a model, else 0."""
    entries = [entry for _, entry in Store(folder).entries()]
    if not entries:
        raise InputError(f"{folder}: holds no tools; fill it with `cohyde catalog sync`")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("Reading the tools", total=len(entries))
        found = findings(entries, lambda done, total: bars.update(task, completed=done))
    if json_file is not None:
        write_json(json_file, [asdict(finding) for finding in found])
    # A pipe has no width of its own, and a narrow one would cut the ids.
    console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True, highlight=False)
    show(found, len(entries), console)
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(1)


def show(found: Sequence[Finding], tools: int, console: Console) -> None:
    """Print a table of kinds, errors first, and the first findings of each kind."""
    order: tuple[Severity, ...] = ("error", "warning", "note")
    counts = Counter((finding.severity, finding.kind) for finding in found)
    affected = len({finding.tool_id for finding in found})
    console.print(f"{tools:,} tools, {len(found):,} findings in {affected:,} of them")
    if not found:
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("severity", "kind", "findings"):
        table.add_column(name, justify="right" if name == "findings" else "left")
    kinds = sorted(counts, key=lambda pair: (order.index(pair[0]), -counts[pair], pair[1]))
    for severity, kind in kinds:
        table.add_row(severity, kind, f"{counts[severity, kind]:,}")
    console.print(table)
    for severity, kind in kinds:
        own = [finding for finding in found if (finding.severity, finding.kind) == (severity, kind)]
        more = f", the first {SHOWN} of {len(own):,}" if len(own) > SHOWN else ""
        console.print(f"[bold]{severity}: {kind}[/bold]{more}. To do: {escape(own[0].remedy)}")
        for finding in own[:SHOWN]:
            console.print(f"  {escape(finding.tool_id)}: {escape(finding.what)}")
