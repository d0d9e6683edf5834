"""A catalog of thirty tools in BEIR's layout, tiny random models, and the command line that co-trains them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.tiny_models import make_encoder, make_rewriter

VERBS = ("create", "delete", "list", "update", "start")
THINGS = ("bucket", "queue", "table", "cluster", "alarm", "role")
EXTRA = ("a", "the", "please", "i", "want", "to", "one", "my", "it", "orders", "called", "request", "known", "write", "entry")


def make_world(root: Path) -> Path:
    """Catalog and models under ``root``; returns it."""
    catalog = root / "catalog"
    (catalog / "qrels").mkdir(parents=True)
    tools = [(f"{verb}-{thing}", verb, thing) for verb in VERBS for thing in THINGS]
    lines = [{"_id": i, "title": f"{verb} {thing}", "text": f"{verb} one {thing} called it"} for i, verb, thing in tools]
    (catalog / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    queries, qrels = [], {"train": [], "dev": [], "test": []}
    for split, wording in (("train", "please {} the {}"), ("train", "i want to {} a {}"), ("dev", "{} {}"), ("test", "{} my {}")):
        for number, (tool_id, verb, thing) in enumerate(tools):
            if split == "train" or number % 3 == (split == "test"):
                query_id = f"q{len(queries)}"
                queries.append({"_id": query_id, "text": wording.format(verb, thing), "metadata": {}})
                qrels[split].append((query_id, tool_id))
    (catalog / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    for split, pairs in qrels.items():
        rows = "".join(f"{query_id}\t{tool_id}\t1\n" for query_id, tool_id in pairs)
        (catalog / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    words = (*VERBS, *THINGS, *EXTRA, ".", ":", ";", "<", ">")
    make_encoder(root / "encoder", words)
    make_rewriter(root / "rewriter", words)
    return root


def overrides(root: Path, run_dir: Path) -> list[str]:
    """Settings of a run in the small world: two rounds, two baselines, every stage for real."""
    return [
        f"run_dir={run_dir}",
        f"catalog.source=beir:{root / 'catalog'}",
        f"encoder.model={root / 'encoder'}",
        f"rewriter.model={root / 'rewriter'}",
        "rewriter.engine=transformers",
        "precision=float32",
        "encoder.warm_start_steps=2",
        "encoder.steps_per_unit=2",
        "encoder.pairs_per_step=8",
        "encoder.pairs_per_chunk=8",
        "encoder.query_tokens=32",
        "encoder.document_tokens=32",
        "rewriter.sft_steps=2",
        "rewriter.sft_rows_per_step=4",
        "rewriter.dpo_steps_per_unit=2",
        "rewriter.pairs_per_step=2",
        "rewriter.min_reward_gap=0",
        "rewriter.max_new_tokens=8",
        "rewriter.prompt_tokens=128",
        "loop.queries_per_unit=20",
        "loop.units=2",
    ]


def command(*arguments: str) -> list[str]:
    """The command line of the main job with the base configuration."""
    return [sys.executable, "-m", "pipelines.cotrain", "--config", "configs/base.yaml", *arguments]
