"""What the comparison tells, and what of it it measures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from actors.core.types import Catalog, Corpus
from configs.schema import Config
from pipelines.comparison import arms
from pipelines.comparison.arms import Comparison, Told


def test_without_a_terminal_lines_say_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "TOLD_EVERY_S", -1.0)
    out = io.StringIO()
    console = Console(file=out)
    with console.status("x") as status:
        Told(console, status, "Comparing the arms: cohyde 3").of("reading test queries")(4, 160)
    assert out.getvalue() == "Comparing the arms: cohyde 3: reading test queries, 4 of 160\n"


@pytest.mark.parametrize("rows", [0, 8])
def test_what_is_reranked_is_the_rewriter_alone_the_encoder_alone_and_the_last_round(rows: int) -> None:
    config = Config()
    config = config.model_copy(update={"rewriter": config.rewriter.model_copy(update={"rerank_rows": rows})})
    entries = list(Comparison(config, Path(), Corpus(Catalog(()), ()), "float32").entries())
    read = [(e.arm, e.round, e.retriever_arm) for e in entries if "reranked" in e.modes]
    wanted = [("sft", None, "cohyde"), ("encoder_reranked", None, "encoder_alone"), ("cohyde", 3, "cohyde")]
    assert read == (wanted if rows else [])
