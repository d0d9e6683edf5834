from __future__ import annotations

import re

import pytest

from configs import reference
from configs.load import keys
from configs.schema import Config
from configs.serving import ServingConfig


def rows(page: str) -> dict[str, list[str]]:
    """Field -> the other cells of its row."""
    lines = [line for line in page.splitlines() if line.startswith("| `") and not line.startswith("| `configs/")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_page_in_docs_is_what_the_schema_says_now() -> None:
    assert reference.main(["--check"]) == 0, f"docs/configuration.md is stale; run: {reference.COMMAND} > docs/configuration.md"


def test_every_field_stands_there_with_a_description() -> None:
    found = rows(reference.page())
    expected = {*keys(Config), *keys(ServingConfig)}
    # A section that may be null is none for ``keys``.
    assert found.keys() - expected == {"shadow.release", "shadow.share"}
    assert expected <= found.keys()
    assert [name for name, cells in found.items() if not cells[2]] == []


def test_a_row_says_type_default_and_which_file_sets_what() -> None:
    found = rows(reference.page())
    assert found["loop.max_rewriter_lag"][:2] == ["`int >= 0`", "`0`"]
    assert found["loop.max_rewriter_lag"][3] == "continual `1`"
    assert found["catalog.services"][0] == r"`demo \| all \| list of str`"
    assert found["catalog.max_train_queries"][0] == r"`int >= 0 \| null`"
    assert found["rewriter.temperature"][0] == "`float > 0, <= 2`"
    # A section's defaults in its place, not those of its class.
    assert found["placement.rewriter_trainer.memory_gb"][1] == "`3.5`"
    assert found["run"][1] == "required"
    assert found["replicas"][3] == "serve `2`"


def test_a_stale_page_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reference, "HEAD", "# Other\n")
    assert reference.main(["--check"]) == 1
    assert reference.COMMAND in capsys.readouterr().err
