"""The search server that one would write first: ``python -m pipelines.speed.obvious``.

FastAPI, sentence-transformers and a flat FAISS index in one process, where every request embeds its one query. Invariants:
nothing is tuned that the libraries' own introductions do not tune; it has the weights and vectors that ours has; only this machine
is answered.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from fastapi import FastAPI
from pydantic import BaseModel

from pipelines.command_line import run_app

K = 10


class Search(BaseModel):
    """A request."""

    query: str


def build(encoder: Path, vectors: Path, ids: Path) -> FastAPI:
    """The application: ``POST /search``."""
    import faiss
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(os.cpu_count() or 1)
    model = SentenceTransformer(str(encoder), device="cpu", local_files_only=True)
    tool_ids: list[str] = json.loads(ids.read_text(encoding="utf-8"))
    rows = np.load(vectors)
    index: Any = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    # The tokenizer sets itself up at its first call, and fails where several threads make that call at once.
    model.encode(["ready"], show_progress_bar=False)
    served = FastAPI()

    @served.post("/search")
    def search(asked: Search) -> dict[str, list[dict[str, str | float]]]:
        vector = model.encode([asked.query], normalize_embeddings=True, show_progress_bar=False)
        scores, found = index.search(vector, K)
        tools = zip(found[0], scores[0], strict=True)
        return {"tools": [{"tool_id": tool_ids[row], "score": float(score)} for row, score in tools]}

    return served


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(
    encoder: Annotated[Path, typer.Option(help="Directory of the sentence encoder.")],
    vectors: Annotated[Path, typer.Option(help=".npy file of the tools' vectors.")],
    ids: Annotated[Path, typer.Option(help="JSON file: the tools' ids, in the order of the vectors.")],
    port: Annotated[int, typer.Option(help="Of 127.0.0.1.")],
) -> None:
    """Serve until it is ended."""
    import uvicorn

    uvicorn.run(build(encoder, vectors, ids), host="127.0.0.1", port=port, log_level="warning")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.speed.obvious", arguments)


if __name__ == "__main__":
    sys.exit(main())
