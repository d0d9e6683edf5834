"""The requests that an encoder rehearses."""

from __future__ import annotations

from pipelines.catalogs import requests, written
from pipelines.catalogs.beir import read_queries


def test_they_are_many_and_different_and_no_query_that_somebody_is_scored_on() -> None:
    texts = requests.of_any_kind()
    plain = {" ".join(text.lower().split()) for text in texts}
    assert len(plain) == len(texts) == 1000
    assert all(4 <= len(text.split()) <= 50 for text in texts)
    scored = {query.text.lower() for folder in written.FOLDERS for query in read_queries(folder, kind="standard")}
    assert not plain & scored
