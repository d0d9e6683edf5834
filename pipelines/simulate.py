"""A simulated query log: made-up users of the served release, for trying and proving the continual mode.

Invariants: a query's events are in the log before the next query is asked; each query is answered by one release, the one that is
served at that moment, and only the log and the onlooker's record are written.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from actors import found
from actors.core.ranking import ndcg
from actors.core.types import Corpus, InputError, Query
from actors.lexical import Ranking
from actors.monitor import PLAIN_EVERY_S, describe
from actors.run_dir import OpenedRelease, open_release, storage_root
from configs.load import load as load_config
from configs.schema import Config
from pipelines import catalogs
from pipelines.click_model import Behaviour, asked, cheating_events, events_of
from pipelines.command_line import run_app
from pipelines.evaluate import load_retriever

RECORD = "simulation.jsonl"
"""In the run directory: what an onlooker who knows the right answers sees, one line a query."""
SHOWN = 10
LOOK_EVERY_S = 5.0
START_TIMEOUT_S = 3600.0

Search = Callable[[str], tuple[str, Ranking]]
"""Query -> (name of the release that answered, its first tools)."""


class Simulation:
    """Asks, clicks, and writes two files: the query log, and what an onlooker who knows the right answers sees of it."""

    def __init__(self, log_dir: Path, record: Path, search: Search, behaviour: Behaviour, target: str, seed: int) -> None:
        """``record`` takes one line a query: what the release of that moment made of it. ``target`` is what the cheat pushes."""
        log_dir.mkdir(parents=True, exist_ok=True)
        record.parent.mkdir(parents=True, exist_ok=True)
        started = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._name = f"simulated-{started}-{seed}"
        self._log, self._record = log_dir / f"{self._name}.jsonl", record
        self._search, self._behaviour, self._target = search, behaviour, target
        self._rng = random.Random(seed)
        self._asked = 0

    def ask(self, query: Query) -> str:
        """One query, answered by the served release (whose name is returned), with its events; now and then a lie beside it."""
        release, found = self._search(query.text)
        request_id, now = f"{self._name}-{self._asked}", time.time()
        self._asked += 1
        self._append(self._log, events_of(query, request_id, release, found[:SHOWN], now, self._behaviour.noise, self._rng))
        if self._rng.random() < self._behaviour.cheat_share:
            lie = cheating_events(query, self._target, f"{request_id}-x", release, found[:SHOWN], now)
            self._append(self._log, lie)
        seen = {"time": now, "request_id": request_id, "query_id": query.query_id, "kind": query.kind, "tier": query.tier}
        figure = ndcg([tool_id for tool_id, _ in found], query.gold, 5)
        self._append(self._record, [seen | {"release": release, "nDCG@5": figure}])
        return release

    @staticmethod
    def _append(path: Path, records: Sequence[Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))


class ServedRelease:
    """Answers by whatever the run serves, its tools moved by what users found; before the first promotion, by the release that the
    run starts from.
    """

    def __init__(self, config: Config, corpus: Corpus) -> None:
        """Nothing is loaded yet."""
        self._config, self._corpus = config, corpus
        self._root = storage_root(config, Path(config.run_dir))
        self._served = Path(self._root) / "releases" / "served.json"
        self._loaded: tuple[str, Any] | None = None
        self._found = ""
        self._looked_at = 0.0

    def search(self, query: str) -> tuple[str, Ranking]:
        """Name of the release and its first tools, by the query's own vector."""
        if self._loaded is None or time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self.follow()
        assert self._loaded is not None
        name, retriever = self._loaded
        return name, retriever.rank([query], None, "raw", 0.0, SHOWN)[0]

    def follow(self) -> None:
        """Load what is served now, unless it is loaded, and what users found, unless it is the same."""
        name = str(json.loads(self._served.read_text(encoding="utf-8"))["number"]) if self._served.exists() else "start"
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = (name, load_retriever(self._release(name), self._corpus.catalog, _unseen))
            self._found = ""
        newest = found.stamp(self._root)
        if newest != self._found:
            self._found = newest
            self._loaded[1].follow(found.read(self._root), self._config.stream.feedback_weight)

    def _release(self, name: str) -> OpenedRelease:
        if name != "start":
            return open_release(f"{self._config.run_dir}@{name}", "run_dir")
        if self._config.loop.start_from is None:
            raise InputError("loop.start_from names no release and this run serves none yet; start the run first")
        return open_release(self._config.loop.start_from, "loop.start_from")


def _unseen(what: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def run(config: Config, rate: float, count: int, seed: int, behaviour: Behaviour, console: Console) -> None:
    """Ask ``count`` queries at ``rate`` a second. Raises InputError for a log that is not a directory, or nothing to replay."""
    if config.stream.source != "jsonl":
        raise InputError(f"stream.source={config.stream.source}: the simulation writes a directory; set stream.source=jsonl")
    corpus = catalogs.load(config.catalog, config.seed)
    target = random.Random(seed).choice(corpus.catalog.tools).tool_id
    served = ServedRelease(config, corpus)
    simulation = Simulation(Path(config.stream.address), Path(config.run_dir) / RECORD, served.search, behaviour, target, seed)
    columns = (TextColumn("asking, release {task.fields[release]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with console.status("Loading the served release"):
        served.follow()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=count, release="-")
        started = told = time.monotonic()
        stage = {"done": 0.0, "total": float(count), "begun": 0.0, "started": time.time()}
        for place, query in enumerate(asked(corpus, config.catalog.stream_services, count, behaviour, seed)):
            time.sleep(max(0.0, started + place / rate - time.monotonic()))
            release = simulation.ask(query)
            progress.update(task, completed=place + 1, release=release)
            if not console.is_terminal and time.monotonic() - told >= PLAIN_EVERY_S:
                told = time.monotonic()
                console.print(describe(f"ask (release {release})", stage | {"done": place + 1.0}, time.time()), highlight=False)


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(
    config: Annotated[str, typer.Option(help="The configuration of the run that reads the log, as configs/continual.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides, as stream.address=DIR.")] = None,
    rate: Annotated[float, typer.Option(help="Queries a second.", min=0.001)] = 1.0,
    count: Annotated[int, typer.Option(help="Queries in all.", min=1)] = 3600,
    seed: Annotated[int, typer.Option(help="Of the users.")] = 1,
    noise: Annotated[float, typer.Option(help="Chance that a wrong tool that was looked at is called.", min=0, max=1)] = 0.05,
    cheat: Annotated[float, typer.Option(help="Events of the client that cheats, for each of the others.", min=0, max=1)] = 0.1,
) -> None:
    """Replay queries that no run trained on as a query log, answered by what the run serves."""
    run(load_config(config, overrides or []), rate, count, seed, Behaviour(noise=noise, cheat_share=cheat), Console())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.simulate", arguments)


if __name__ == "__main__":
    sys.exit(main())
