"""The operations of the AWS SDK as a source: ``all`` services of the installed botocore, or names parted by commas (``s3,sqs``).

Invariants: an operation's id is ``NAMESPACE.SERVICE.Operation``, so that with the namespace ``aws`` ids are those of the catalog
that runs are trained on; the schema says of each top-level member what the service model says.
"""

from __future__ import annotations

from actors.catalog_file import Entry, entry_of
from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.catalogs import aws
from pipelines.ingestion.listing import Listing, make_entry

SOURCE = "aws"


def read(location: str, namespace: str, progress: Progress) -> Listing:
    """The operations of the services at ``location``; progress in services.

    Raises InputError for a service that botocore does not have.
    """
    services = () if location == "all" else [name.strip() for name in location.split(",") if name.strip()]
    if location != "all" and not services:
        raise InputError(f"botocore:{location}: names no service; give all, or names such as s3,sqs")
    entries: list[Entry] = []
    notes: list[str] = []
    for operation in aws.read_operations(progress=progress, services=services):
        tool, schema = operation.tool, entry_of(operation.tool).input_schema
        space = f"{namespace}.{operation.service}"
        entry, cut = make_entry(space, tool.name, tool.description, schema, SOURCE, tool.title)
        entries.append(entry)
        notes += cut
    return Listing(tuple(entries), notes=tuple(notes))
