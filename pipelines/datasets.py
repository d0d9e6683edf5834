"""The records of a unit as Parquet, through Ray Data: one dataset for each kind ("rewrites", "scored", "pairs") and unit.

Invariants: a dataset is there whole or not at all (the rules of ``SnapshotStore``: temporary name, rename, READY last); its schema
is that of ``types.SCHEMAS``; rows keep their order; an existing dataset is never written again. Blocks are few, because each costs
a task and a file, and the work of a block is done by a long-lived actor, never by the task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from pyarrow import fs as pafs

from actors import remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import SCHEMAS

TASK_CPUS = 0.1
"""Logical CPUs of a task that only forwards to an actor, or writes a file."""

ONE_BY_ONE = ray.data.TaskPoolStrategy(size=1)

Batch = Callable[[pa.Table], pa.Table]


def configure() -> None:
    """Ray Data as this project uses it: order kept, nothing of its own on the terminal. Call in the driver, on a cluster."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.print_on_execution_start = False
    remote.quieten("ray.data")


def map_blocks(blocks: Sequence[pa.Table], batch: Batch) -> ray.data.Dataset:
    """``batch`` applied to every block, one task after the other; lazy."""
    dataset = ray.data.from_arrow(list(blocks))
    return dataset.map_batches(batch, batch_size=None, batch_format="pyarrow", num_cpus=TASK_CPUS, compute=ONE_BY_ONE)


def write(kind: str, unit: int, data: ray.data.Dataset | pa.Table, root: str) -> None:
    """Publish the dataset ``kind`` of ``unit`` under ``root``; nothing happens, and nothing is computed, where it exists.

    Raises ``ValueError`` where the columns are not those of the kind's schema.
    """
    store = SnapshotStore(root)
    if store.has(kind, unit):
        return
    if isinstance(data, pa.Table):
        _check(kind, data.schema)
        dataset = ray.data.from_arrow(data)
    else:
        dataset = data.materialize()
        schema = dataset.schema()
        _check(kind, schema.base_schema if schema is not None else None)
    rows = dataset.count()

    def through(fs: pafs.FileSystem, path: str) -> None:
        if rows:
            dataset.write_parquet(path, filesystem=fs, ray_remote_args={"num_cpus": TASK_CPUS}, concurrency=1)
        else:
            # Ray Data writes no file for no rows, and with it the schema would be lost.
            pq.write_table(SCHEMAS[kind].empty_table(), f"{path}/empty.parquet", filesystem=fs)

    store.publish_through(kind, unit, through, {"rows": rows})


def exists(kind: str, unit: int, root: str) -> bool:
    """Whether the dataset is there, whole."""
    return SnapshotStore(root).has(kind, unit)


def read(kind: str, unit: int, root: str) -> pa.Table:
    """All rows, in the order they were written in. Raises ``InputError`` where the dataset is missing or half written.

    Read by pyarrow, not by Ray Data, whose reading of one small file takes seconds; ``ray.data.from_arrow`` takes it from here.
    """
    fs, path = SnapshotStore(root).read_from(kind, unit)
    infos = fs.get_file_info(pafs.FileSelector(path))
    files = sorted(info.path for info in infos if info.path.endswith(".parquet"))
    table: pa.Table = pa.concat_tables([pq.read_table(file, filesystem=fs) for file in files])
    _check(kind, table.schema)
    return table.cast(SCHEMAS[kind])


def _check(kind: str, schema: pa.Schema | None) -> None:
    wanted = SCHEMAS[kind]
    if schema is None or not schema.equals(wanted, check_metadata=False):
        found = {} if schema is None else {field.name: str(field.type) for field in schema}
        named = {field.name: str(field.type) for field in wanted}
        wrong = sorted(name for name in found.keys() | named.keys() if found.get(name) != named.get(name))
        raise ValueError(f"dataset {kind}: columns differ from its schema: {', '.join(wrong) or 'order'}")
