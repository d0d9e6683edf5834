"""Queries that were written for benchmarks' catalogs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from pipelines.catalogs import beir, written


def catalog_of(queries: list[Query]) -> Catalog:
    names = {name for query in queries for name in query.gold}
    return Catalog(tuple(Tool(f"t{n}", f"GET {name}", f"GET {name}", "") for n, name in enumerate(sorted(names))))


@pytest.mark.parametrize("folder", written.FOLDERS, ids=lambda folder: folder.name)
def test_ten_queries_train_and_the_others_are_dev(folder: Path) -> None:
    own = beir.read_queries(folder, kind="standard")
    catalog, test = catalog_of(own), Query("q", "who made it", "standard", "test", {"t1": 1})
    corpus = written.with_written(Corpus(catalog, (test,)))
    assert corpus.queries[-1] == test
    assert len(corpus.select("train")) == 10 and len(corpus.select("dev")) >= 30
    for query, read in zip(corpus.queries, own, strict=False):
        assert {catalog.by_id[t].title.split()[-1] for t in query.gold} == set(read.gold)


def test_another_catalog_and_one_with_labels_are_refused() -> None:
    with pytest.raises(InputError, match="only for those of metatool, restbench; leave -written out"):
        written.with_written(Corpus(Catalog((Tool("a", "a", "a", ""),)), ()))
    labelled = Query("q", "who made it", "standard", "dev", {"a": 1})
    for split in ("train", "dev"):
        with pytest.raises(InputError, match="queries of its own; leave -written out"):
            written.with_written(Corpus(Catalog(()), (replace(labelled, split=split),)))
