"""The operations of the AWS SDK as a catalog, read from the service models inside the installed ``botocore``.

Invariants: nothing is downloaded or vendored; the newest API version of each service is read; a tool's id is
``aws.<service>.<Operation>``; the result depends on botocore's version alone. Near-duplicates (older twin services, the tagging
family, deprecated operations) are named in ``Catalog.equivalents`` so that none is ever taken for the other's negative.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import botocore

from actors.core.text import identifier_words
from actors.core.types import InputError, Parameter, Tool
from actors.interfaces import Progress
from pipelines.catalogs.text import content_stems, overlap, strip_html

OLDER_TWINS: dict[str, tuple[str, ...]] = {
    "codestar-connections": ("codeconnections",),
    "connectcampaigns": ("connectcampaignsv2",),
    "docdb": ("neptune", "rds"),
    "es": ("opensearch",),
    "kinesisanalytics": ("kinesisanalyticsv2",),
    "neptune": ("rds",),
    "pinpoint-email": ("sesv2",),
    "sms-voice": ("pinpoint-sms-voice",),
    "waf": ("waf-regional",),
    "wisdom": ("qconnect",),
}
"""Service -> the services that took over its operations under the same names (found by comparing names and texts)."""

_TAGGING = re.compile(
    r"(?P<tag>Tag(?!Option)([A-Z]\w*)?|(Add|Create|CreateOrUpdate|Set|Put|Update|Change)(\w*)Tag(s|ging)((To|For|On)\w+)?)"
    r"|(?P<untag>Untag([A-Z]\w*)?|(Remove|Delete)(\w*)Tag(s|ging)((From|For)\w+)?)"
    r"|(?P<list>(List|Describe|Get)(\w*)Tag(s|ging)((For|Of|LogGroup)\w*)?)"
)
_NOT_TAGGING = re.compile(r"LFTag|WithTags|CostAllocation|RequiredTags|Onboarding|ResourceTagging|OptionFrom")
_REPLACED = re.compile(r"deprecat|updated version|newer version|instead|supersed|replaced|no longer|legacy", re.IGNORECASE)
_SHORT_NAMES = {
    "health": "AWS Health",
    "kendra": "Amazon Kendra",
    "repostspace": "AWS rePost Private",
    "sagemaker": "Amazon SageMaker",
    "stepfunctions": "AWS Step Functions",
}
"""Services whose models give no name that people use."""
_SAME_TEXT = 0.6


@dataclass(frozen=True)
class Operation:
    """One operation as the SDK describes it: the tool, and what queries are made from."""

    tool: Tool
    service: str
    deprecated: bool
    replaced_by: tuple[str, ...]
    errors: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]


def data_dir() -> Path:
    """Where the installed botocore keeps its models."""
    return Path(botocore.__file__).parent / "data"


def read_operations(
    root: Path | None = None, progress: Progress = lambda done, total: None, services: Collection[str] = ()
) -> list[Operation]:
    """All operations, or those of ``services``, service after service in the order of their names; ``progress`` counts services.

    Raises InputError where there are no service models, or none of a service that is asked for.
    """
    root = root or data_dir()
    folders = {p.name: newest for p in sorted(root.iterdir()) if p.is_dir() and (newest := _newest_version(p)) is not None}
    if not folders:
        raise InputError(f"catalog.source=aws: no service models under {root}; install the pinned botocore")
    for service in sorted(set(services) - folders.keys()):
        near = [name for name in folders if service.lower() in name][:8]
        hint = f"do you mean {', '.join(near)}?" if near else "give all, or names such as s3,sqs"
        raise InputError(f"botocore: there is no service {service!r}; {hint}")
    operations: list[Operation] = []
    metadata: dict[str, dict[str, Any]] = {}
    for done, (service, folder) in enumerate(folders.items(), start=1):
        model = _read_json(folder, "service-2.json")
        metadata[service] = model["metadata"]
        if not services or service in services:
            examples = _read_json(folder, "examples-1.json").get("examples", {})
            operations += _service_operations(service, model, examples)
        progress(done, len(folders))
    titles = service_titles(metadata)
    return [_titled(operation, titles[operation.service]) for operation in operations]


def service_titles(metadata: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Service -> the short name people use: "Amazon S3", "AWS Lambda"; told apart where two would be the same."""
    full = {service: _service_name(service, meta) for service, meta in metadata.items()}
    uses = Counter(full.values())
    return {s: name if uses[name] == 1 else str(metadata[s].get("serviceAbbreviation") or name) for s, name in full.items()}


def tagging_action(operation: str) -> str:
    """``tag``, ``untag`` or ``list`` for an operation of the tagging family, else empty."""
    match = _TAGGING.fullmatch(operation)
    return (match.lastgroup or "") if match and not _NOT_TAGGING.search(operation) else ""


def is_near_duplicate(operation: Operation) -> bool:
    """Whether the demo's catalog leaves it out: deprecated, of the tagging family, or of an older twin service."""
    return operation.deprecated or operation.service in OLDER_TWINS or bool(tagging_action(operation.tool.name))


def equivalents(operations: Iterable[Operation]) -> dict[str, frozenset[str]]:
    """Tool id -> tools that must never be its negative (itself not among them).

    Four rules: same name in a twin service; same name and nearly the same description in any service; the same action of the
    tagging family; a deprecated operation and what its documentation names in its place.
    """
    pairs: dict[str, set[str]] = defaultdict(set)
    named: dict[str, list[Operation]] = defaultdict(list)
    families: dict[str, list[str]] = defaultdict(list)
    for operation in operations:
        named[operation.tool.name].append(operation)
        if action := tagging_action(operation.tool.name):
            families[action].append(operation.tool.tool_id)
        for other in operation.replaced_by:
            pairs[operation.tool.tool_id].add(other)
            pairs[other].add(operation.tool.tool_id)
    for same_name in named.values():
        if len(same_name) == 1 or tagging_action(same_name[0].tool.name):
            continue
        stems = [content_stems(operation.tool.description) for operation in same_name]
        for i, left in enumerate(same_name):
            for j in range(i):
                right = same_name[j]
                if _twins(left.service, right.service) or overlap(stems[i], stems[j]) > _SAME_TEXT:
                    pairs[left.tool.tool_id].add(right.tool.tool_id)
                    pairs[right.tool.tool_id].add(left.tool.tool_id)
    shared = {tool_id: frozenset(members) for members in families.values() for tool_id in members}
    return {t: frozenset(pairs.get(t, ())) | shared.get(t, frozenset()) - {t} for t in sorted(pairs.keys() | shared.keys())}


def _twins(left: str, right: str) -> bool:
    return right in OLDER_TWINS.get(left, ()) or left in OLDER_TWINS.get(right, ())


def _newest_version(service: Path) -> Path | None:
    versions = [v for v in service.iterdir() if v.is_dir() and any(v.glob("service-2.json*"))]
    return max(versions, key=lambda v: v.name, default=None)


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON of a model file, plain or gzipped; empty where the service has none."""
    for path, read in ((folder / f"{name}.gz", gzip.open), (folder / name, open)):
        if path.exists():
            with read(path, "rt", encoding="utf-8") as file:
                content: dict[str, Any] = json.load(file)
                return content
    return {}


def _service_name(service: str, meta: dict[str, Any]) -> str:
    """ "AWS Lambda": the abbreviation where it carries the maker's name, else the full name, run-together words parted."""
    if service in _SHORT_NAMES:
        return _SHORT_NAMES[service]
    short = str(meta.get("serviceAbbreviation", ""))
    name = short if re.match(r"(AWS|Amazon) ", short) else str(meta["serviceFullName"])
    if joined := re.match(r"(AWS|Amazon)([A-Z]\w*)(.*)", name):
        return f"{joined[1]} {' '.join(identifier_words(joined[2]))}{joined[3]}"
    return name


def _titled(operation: Operation, service_title: str) -> Operation:
    title = f"{service_title}: {' '.join(identifier_words(operation.tool.name))}"
    return replace(operation, tool=replace(operation.tool, title=title))


def _service_operations(service: str, model: dict[str, Any], examples: dict[str, Any]) -> Iterator[Operation]:
    shapes, names = model["shapes"], set(model["operations"])
    for name, spec in sorted(model["operations"].items()):
        description = strip_html(spec.get("documentation", ""))
        tool = Tool(
            tool_id=f"aws.{service}.{name}",
            name=name,
            title=name,
            description=description,
            parameters=tuple(_parameters(spec, shapes)),
            namespace=service,
            source="aws",
        )
        errors = (e.get("documentation") or shapes[e["shape"]].get("documentation", "") for e in spec.get("errors", ()))
        deprecated = bool(spec.get("deprecated"))
        yield Operation(
            tool=tool,
            service=service,
            deprecated=deprecated,
            replaced_by=_replacements(tool, spec.get("deprecatedMessage", ""), names) if deprecated else (),
            errors=tuple(strip_html(text) for text in errors if text),
            examples=tuple((e.get("title", ""), e.get("description", "")) for e in examples.get(name, ())),
        )


def _parameters(spec: dict[str, Any], shapes: dict[str, Any]) -> Iterator[Parameter]:
    shape = shapes[spec["input"]["shape"]] if "input" in spec else {}
    required = set(shape.get("required", ()))
    for name, member in shape.get("members", {}).items():
        target = shapes[member["shape"]]
        text = strip_html(member.get("documentation") or target.get("documentation", ""))
        yield Parameter(name=name, type=target["type"], required=name in required, description=text)


def _replacements(tool: Tool, message: str, names: set[str]) -> tuple[str, ...]:
    """Operations of the same service that a deprecated one's documentation names where it speaks of replacement."""
    lines = [message, *(line for line in tool.description.split("\n") if _REPLACED.search(line))]
    words = {word for line in lines for word in re.findall(r"[A-Z][A-Za-z0-9]+", line)}
    return tuple(f"aws.{tool.namespace}.{word}" for word in sorted(words & names - {tool.name}))
