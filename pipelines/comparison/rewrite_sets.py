"""The rewrites that a run of rounds makes for its comparison, a file for each arm and round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.core.types import Query
from pipelines.files import write_whole


class RewriteSet:
    """The rewrites of all dev and test queries by one arm and round, as one Parquet file of the run directory."""

    def __init__(self, run_dir: Path, arm: str, round_number: int | None) -> None:
        """Nothing is read or written yet."""
        self.name = arm if round_number is None else f"{arm}-round-{round_number}"
        self.path = run_dir / "results" / "rewrites" / f"{self.name}.parquet"

    def write(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]]) -> None:
        """Keep the rewrites of each query."""
        rows = {"query_id": [q.query_id for q in queries], "rewrites": [list(texts) for texts in rewrites]}
        write_whole(self.path, lambda path: pq.write_table(pa.table(rows), path))

    def read(self) -> dict[str, list[str]]:
        """Query id -> its rewrites."""
        table = pq.read_table(self.path)
        return dict(zip(table["query_id"].to_pylist(), table["rewrites"].to_pylist(), strict=True))
