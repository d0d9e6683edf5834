"""What the comparison tells, and what of it it measures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.core.types import Catalog, Corpus
from configs.schema import Config
from pipelines.comparison import told
from pipelines.comparison.arms import Comparison
from pipelines.comparison.releasing import release_figures
from pipelines.comparison.told import Told


def test_without_a_terminal_lines_say_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "TOLD_EVERY_S", -1.0)
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
    remembered = [e.arm for e in entries if "remembered" in e.modes]
    assert remembered == ["frozen", "encoder_remembered", "cohyde"]
    read = [(e.arm, e.round, e.retriever_arm) for e in entries if "reranked" in e.modes]
    wanted = [("sft", None, "cohyde"), ("encoder_reranked", None, "encoder_alone"), ("cohyde", 3, "cohyde")]
    assert read == (wanted if rows else [])
    named = [e.arm for e in entries if "named" in e.modes]
    assert named == (["sft", "encoder_reranked", "cohyde"] if rows else ["frozen", "cohyde"])


@pytest.mark.parametrize(("frozen", "best"), [(0.1, 1), (0.45, -1)])
def test_a_release_is_the_best_round_on_dev_or_the_frozen_encoder(frozen: float, best: int) -> None:
    def rows(arm: str, number: int | None, mode: str, standard: float, vague: float) -> list[dict[str, Any]]:
        about = {"arm": arm, "round": number, "mode": mode}
        return [{**about, "slice": "standard", "value": standard}, {**about, "slice": "vague", "value": vague}]

    dev = [
        *rows("frozen", None, "raw", frozen, frozen),
        *rows("frozen", None, "hybrid", 0.9, 0.9),
        *rows("encoder_alone", None, "raw", 0.9, 0.9),
        *rows("cohyde", 0, "fused", 0.5, 0.1),
        *rows("cohyde", 1, "fused", 0.6, 0.2),
        *rows("cohyde", 1, "raw", 0.9, 0.9),
    ]
    figures = release_figures(dev)
    assert figures == pytest.approx({-1: frozen, 0: 0.3, 1: 0.4})
    assert max(figures, key=lambda number: figures[number]) == best
