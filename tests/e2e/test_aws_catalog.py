"""The real catalog of the installed SDK: what the README says about it, and that no test text leaks into training."""

from collections import Counter

import pytest

from actors.core.types import Corpus
from configs.schema import CatalogConfig
from pipelines import catalogs
from pipelines.catalogs.text import NearCopies, content_stems, stem_frequency

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return catalogs.load(CatalogConfig(), 17)


def test_every_operation_and_every_kind_of_query_is_there(corpus: Corpus) -> None:
    assert len(corpus.catalog.tools) == 19_796
    assert len({t.namespace for t in corpus.catalog.tools}) == 439
    kinds = Counter(q.kind for q in corpus.queries)
    assert kinds["vague"] == 5_175
    assert kinds["standard"] > 1_000
    assert kinds["sentence"] > 7_000
    assert kinds["symptom"] > 2_000
    assert kinds["example"] > 700
    slices = Counter((q.tier, q.novelty) for q in corpus.select("test"))
    assert min(slices.values()) >= 150
    assert len(slices) == 8


def test_no_training_query_touches_an_unseen_operation_or_its_equivalents(corpus: Corpus) -> None:
    unseen = {t for q in corpus.queries if q.novelty == "unseen" for t in q.gold}
    blocked = corpus.catalog.never_negative(sorted(unseen))
    train = corpus.select("train")
    assert not [q.query_id for q in train if blocked & q.gold.keys()]
    touched = {t for q in train if q.kind in ("standard", "vague") for t in q.gold}
    assert all(touched & q.gold.keys() for q in corpus.queries if q.novelty == "seen")


def test_no_near_copy_stands_in_two_splits(corpus: Corpus) -> None:
    stems = {q.query_id: content_stems(q.text) for q in corpus.queries}
    frequency = stem_frequency(stems.values())
    for higher, lower in (("test", ("dev", "train")), ("dev", ("train",))):
        index = NearCopies(frequency)
        for query in corpus.select(higher):  # type: ignore[arg-type]
            index.add(stems[query.query_id])
        assert not [q.query_id for q in corpus.queries if q.split in lower and index.matches(stems[q.query_id])]


def test_a_sentence_asked_for_stands_in_no_description_of_its_tools(corpus: Corpus) -> None:
    by_id = corpus.catalog.by_id
    assert not [q.query_id for q in corpus.queries if q.kind == "sentence" and any(q.text in by_id[t].description for t in q.gold)]


def test_the_demo_s_catalog_has_its_size_and_all_golds() -> None:
    demo = catalogs.load(CatalogConfig(services="demo"), 17)
    assert 4_000 <= len(demo.catalog.tools) <= 6_000
    assert all(q.gold.keys() <= demo.catalog.by_id.keys() for q in demo.queries)
    slices = Counter((q.tier, q.novelty) for q in demo.select("test"))
    assert min(slices.values()) >= 80
    assert len(slices) == 8
