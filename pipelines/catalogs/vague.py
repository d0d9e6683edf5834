"""The vague queries that come with this package: needs of people who do not know the catalog's words, in three wordings each.

Invariants: splits, tiers and golds are the files' own; nothing is derived here.
"""

from __future__ import annotations

from pathlib import Path

from actors.core.types import Query
from pipelines.catalogs import beir

FOLDER = Path(__file__).parent / "data" / "vague_aws"


def read(folder: Path | None = None) -> list[Query]:
    """The queries in file order; ``tier`` is V1, V2 or V3 and ``novelty`` whether training knows a gold operation."""
    return beir.read_queries(folder or FOLDER, kind="vague")
