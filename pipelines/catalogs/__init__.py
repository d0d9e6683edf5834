"""Catalog and query sources, one file each; ``load`` turns the configuration's catalog section into a corpus.

Invariants: the same configuration and seed give the same corpus; every gold tool is in the catalog; cutting a catalog or taking a
subset never moves a query to another split. Parsing the AWS models takes seconds, so the whole corpus is kept in
the cache directory under a key of botocore's version and of this package's own code and data.
"""

from __future__ import annotations

import difflib
import gc
import hashlib
import logging
import os
import pickle
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import botocore
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from actors.core import text, types
from actors.core.types import LABELLED_KINDS, Catalog, Corpus, InputError, Query, Split
from actors.models import cache_dir
from configs.schema import CatalogConfig
from pipelines.catalogs import aws, aws_queries, beir, mair, mtrb, providers, synced, toolret, vague, written

logger = logging.getLogger(__name__)

DEMO_OPERATIONS = 4_200
"""The demo's catalog holds at most this many operations."""
NEEDED_SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_HELD_OUT_WEIGHT = 2
_FULLY_JUDGED = ("vague",)

FOLDERS: dict[str, Callable[[Path], Corpus]] = {
    "beir": beir.load,
    "beir-written": lambda folder: written.with_written(beir.load(folder)),
    "toolret": partial(toolret.load, instructions=False),
    "toolret-instructed": partial(toolret.load, instructions=True),
    "mair": partial(mair.load, instructions=False),
    "mair-instructed": partial(mair.load, instructions=True),
    "mtrb": mtrb.load,
    synced.KIND: synced.load,
    "mtrb-written": lambda folder: written.with_written(mtrb.load(folder)),
}
"""Kinds of folder, and how each is read; "-written" adds the training and dev queries that were written for its catalog."""

_Built: TypeAlias = tuple[Corpus, frozenset[str]]
"""The whole AWS corpus, and the tools that the demo leaves out as near-duplicates."""


def load(config: CatalogConfig, seed: int) -> Corpus:
    """The corpus of ``config.source``, cut to its services and subsets.

    Raises ``InputError`` for an unknown source or service, a broken folder (see ``beir.load``) and a cut that empties a split.
    """
    kind, _, folder = config.source.partition(":")
    if config.source == "aws":
        corpus = _cut_to_services(*_aws_corpus(), config.services)
    elif kind in FOLDERS and folder:
        corpus = FOLDERS[kind](Path(folder).expanduser())
    else:
        raise InputError(f"catalog.source={config.source!r} is unknown; give aws, {', '.join(f'{name}:DIR' for name in FOLDERS)}")
    corpus = providers.hold_out(corpus, config.unseen_providers)
    queries = [_set_aside(query, corpus.catalog, config) for query in corpus.queries]
    return replace(corpus, queries=tuple(_subset(queries, config, seed)))


def _set_aside(query: Query, catalog: Catalog, config: CatalogConfig) -> Query:
    """The query in the split "stream", where its need is set aside: by hash, alike for every catalog that holds it."""
    if query.split != "train" or query.kind not in LABELLED_KINDS:
        return query
    need = hashlib.sha256(f"stream {query.need or query.query_id}".encode()).digest()
    by_share = int.from_bytes(need[:4], "big") < config.stream_share * 2**32
    by_service = any(catalog.by_id[tool_id].namespace in config.stream_services for tool_id in query.gold)
    return replace(query, split="stream") if by_share or by_service else query


def demo_services(corpus: Corpus, left_out: frozenset[str], operations: int = DEMO_OPERATIONS) -> set[str]:
    """The services with the most vague needs an operation, as many as fit into ``operations``; held-out needs count double.

    A gold operation counts even where its near-duplicates are left out.
    """
    asked = {t for q in corpus.queries if q.kind == "vague" for t in q.gold}
    sizes = Counter(t.namespace for t in corpus.catalog.tools if t.tool_id in asked or t.tool_id not in left_out)
    weight: dict[str, float] = defaultdict(float)
    for query in {q.need: q for q in corpus.queries if q.kind == "vague"}.values():
        services = {corpus.catalog.by_id[t].namespace for t in query.gold}
        for service in services:
            weight[service] += (1 if query.split == "train" else _HELD_OUT_WEIGHT) / len(services)
    chosen: set[str] = set()
    for service in sorted(weight, key=lambda s: (-weight[s] / sizes[s], s)):
        if sizes[service] <= operations:
            chosen.add(service)
            operations -= sizes[service]
    return chosen


def _aws_corpus() -> _Built:
    cache = cache_dir() / "catalogs" / f"aws-{_cache_key()}.pickle"
    kept = _read_cache(cache)
    if kept is not None:
        return kept
    built = _build_aws()
    _write_cache(cache, built)
    return built


def _build_aws() -> _Built:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("Reading the AWS service models", total=None)
        operations = aws.read_operations(progress=lambda done, total: display.update(task, completed=done, total=total))
        display.update(task, description="Making queries of the SDK's texts")
        corpus = aws_queries.build(operations, vague.read())
    check_golds(corpus, f"of botocore {botocore.__version__}; install the pinned version")
    return corpus, frozenset(o.tool.tool_id for o in operations if aws.is_near_duplicate(o))


def check_golds(corpus: Corpus, remedy: str) -> None:
    """Raises ``InputError`` for the first query with a gold that the catalog lacks."""
    for query in corpus.queries:
        for tool_id in query.gold:
            if tool_id not in corpus.catalog.by_id:
                raise InputError(f"query {query.query_id!r}: gold {tool_id!r} is not in the catalog {remedy}")


def _cut_to_services(corpus: Corpus, left_out: frozenset[str], services: str | list[str]) -> Corpus:
    if services == "all":
        return corpus
    known = {t.namespace for t in corpus.catalog.tools}
    named = [services] if isinstance(services, str) else services
    for service in named:
        if service not in known | {"demo"}:
            near = difflib.get_close_matches(service, known, n=1)
            raise InputError(f"catalog.services: no service {service!r} in botocore{f'; meant {near[0]!r}?' if near else ''}")
    if "demo" not in named:
        return cut(corpus, lambda tool: tool.namespace in named, f"catalog.services={services}")
    chosen = demo_services(corpus, left_out) | (set(named) - {"demo"})
    judged = {t for q in corpus.queries if q.kind in _FULLY_JUDGED for t in q.gold}
    demo = cut(
        corpus,
        lambda tool: tool.namespace in chosen and (tool.tool_id in judged or tool.tool_id not in left_out),
        f"catalog.services={services}",
    )
    logger.info(
        "Demo catalog: %d operations of %d services; %d of %d queries stay",
        len(demo.catalog.tools),
        len(chosen),
        len(demo.queries),
        len(corpus.queries),
    )
    return demo


def check_trainable(corpus: Corpus, config: CatalogConfig) -> None:
    """Raise ``InputError`` unless every split holds labelled queries: a run learns on train, fits on dev and measures on test."""
    for split in NEEDED_SPLITS:
        if not corpus.select(split, LABELLED_KINDS):
            remedy = "add services that queries ask for" if config.source == "aws" else f"write qrels/{split}.tsv"
            if config.source.startswith(f"{synced.KIND}:"):
                remedy = f"label three queries or more: cohyde catalog label {config.source.partition(':')[2]} QUERY TOOL_ID"
            raise InputError(
                f"catalog.source={config.source}: the {split} split is empty, and a run learns on train, fits on dev and measures"
                f" on test; {remedy}"
            )


def cut(corpus: Corpus, keep: Callable[[types.Tool], bool], setting: str) -> Corpus:
    """The tools that ``keep`` accepts, and the queries with them.

    A vague query stays only if all its golds do (its judgement is complete); other queries keep the golds that are left. Dev and
    test queries called seen need a training query that is left. Raises ``InputError`` where train or test would be empty.
    """
    tools = tuple(t for t in corpus.catalog.tools if keep(t))
    ids = {t.tool_id for t in tools}
    queries: list[Query] = []
    for query in corpus.queries:
        gold = {t: grade for t, grade in query.gold.items() if t in ids}
        if len(gold) == len(query.gold):
            queries.append(query)
        elif gold and query.kind not in _FULLY_JUDGED:
            queries.append(replace(query, gold=gold))
    queries = aws_queries.seen_only(queries)
    for split in ("train", "test"):
        if not any(q.split == split for q in queries):
            raise InputError(f"{setting} leaves the {split} split empty; add services that the queries ask for")
    equivalents = {t: near & ids for t, near in corpus.catalog.equivalents.items() if t in ids and near & ids}
    return Corpus(Catalog(tools, equivalents), tuple(queries))


def _subset(queries: Sequence[Query], config: CatalogConfig, seed: int) -> list[Query]:
    """Train cut over its tiers in proportion; dev and test cut in each tier, seen and unseen in proportion."""
    limits = {"train": config.max_train_queries, "dev": config.max_test_queries_per_tier, "test": config.max_test_queries_per_tier}
    for name in ("max_train_queries", "max_test_queries_per_tier"):
        if getattr(config, name) == 0:
            raise InputError(f"catalog.{name}=0 leaves a split empty; give 1 or more, or null for all")
    groups: dict[tuple[str, str], list[Query]] = defaultdict(list)
    for query in queries:
        if limits.get(query.split) is not None and query.kind in LABELLED_KINDS:
            groups[query.split, "" if query.split == "train" else query.tier].append(query)
    dropped: set[str] = set()
    for (split, _), members in groups.items():
        limit = limits[split] or len(members)
        strata: dict[str, list[Query]] = defaultdict(list)
        for query in members:
            strata[query.tier if split == "train" else query.novelty].append(query)
        for name, share in _shares({name: len(stratum) for name, stratum in strata.items()}, limit).items():
            # Held-out wordings of one need stay together over the tiers, so that V1, V2 and V3 ask for the same things.
            ranked = sorted(
                strata[name],
                key=lambda q: (aws_queries.by_hash(f"{seed} {q.query_id if split == 'train' else q.need}"), q.query_id),
            )
            dropped.update(q.query_id for q in ranked[share:])
    return [q for q in queries if q.query_id not in dropped]


def _shares(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """``limit`` parted over the strata in proportion to their sizes (largest remainders)."""
    total = sum(sizes.values())
    if limit >= total:
        return sizes
    exact = {name: limit * size / total for name, size in sizes.items()}
    shares = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda n: (shares[n] - exact[n], n))[: limit - sum(shares.values())]:
        shares[name] += 1
    return shares


def _cache_key() -> str:
    """Changes with botocore and with every file that the corpus is made from."""
    here = Path(__file__).parent
    sources = [
        *sorted(here.glob("*.py")),
        Path(types.__file__),
        Path(text.__file__),
        *sorted(p for p in vague.FOLDER.rglob("*") if p.is_file()),
    ]
    return f"{botocore.__version__}-{_digest_files(sources)}"


def _digest_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _read_cache(path: Path) -> _Built | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    # A quarter of a million small objects: the collector would look through them again and again while they are made.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        built: _Built = pickle.loads(content)
    except (pickle.UnpicklingError, EOFError):
        logger.warning("The catalog kept in %s cannot be read; it is made anew", path)
        return None
    finally:
        if was_enabled:
            gc.enable()
    return built


def _write_cache(path: Path, built: _Built) -> None:
    """Whole or not at all; a cache that cannot be written costs time, nothing else. Older ones of this botocore go."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            pickle.dump(built, file, protocol=pickle.HIGHEST_PROTOCOL)
        os.replace(file.name, path)
        for older in path.parent.glob("aws-*.pickle"):
            if older != path:
                older.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("The catalog could not be kept in %s: %s", path, error)
