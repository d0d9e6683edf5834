"""A view made by hand, three tools on the circle under an encoder that is a table, and searches over it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.catalog_file import Entry, entry_of
from actors.core.limits import Limits
from actors.core.types import Parameter, Tool
from actors.index import DenseIndex
from actors.run_dir import OpenedRelease
from configs.schema import Config
from configs.serving import ServingConfig
from serve_app.engine import Engine
from serve_app.keys import SCOPES, Client
from serve_app.query_log import QueryLog
from serve_app.reranker import RerankClient
from serve_app.rewriter import RewriteClient
from serve_app.schema.search import SearchAnswer, SearchRequest
from serve_app.view import View
from tests.fakes_retrieval import TableEncoder

VECTORS = {"east": [1.0, 0.0], "north": [0.0, 1.0], "west": [-1.0, 0.0]}
TABLE = {"to the east": [0.96, 0.28], "go_west": [0.6, 0.8], "up there": [0.28, 0.96], "a rewrite": [-0.8, 0.6]}
ANN = Client("ann", frozenset(SCOPES), None, True, "k")


def tool(name: str) -> Tool:
    return Tool(name, f"go_{name}", f"Go: {name}", f"Goes to the {name}.", (Parameter("far", "integer"),), f"{name}ern", "test")


def view(weight: float = 0.5, limits: Limits | None = None, names: Sequence[str] = ("east", "north", "west")) -> View:
    entries: dict[str, Entry] = {name: entry_of(tool(name)) for name in names}
    release = OpenedRelease("7", Config(), None, 2, 3, weight, limits or Limits())
    dense = DenseIndex.build(list(names), np.array([VECTORS[n] for n in names], dtype=np.float32), "exact")
    return View(release, TableEncoder(TABLE), dense, entries, frozenset({"north"}))


def engine(tmp_path: Path, over: View, call: Any = None, rerank: Any = None, **settings: Any) -> Engine:
    given = ServingConfig(run="r", **{"explore_share": 0.0, **settings})
    return Engine(given, over, RewriteClient(call, 0.2, 10), RerankClient(rerank, 0.2, 10), QueryLog(tmp_path, 1_000_000))


async def rewritten(version: int, query: str, titles: Sequence[str]) -> list[str]:
    assert version == 2
    return ["a rewrite"]


def search(made: Engine, query: str, client: Client = ANN, **options: Any) -> SearchAnswer:
    return asyncio.run(made.search(SearchRequest(query=query, **options), client))


def ids(answer: SearchAnswer) -> list[str]:
    return [found.tool_id for found in answer.tools]
