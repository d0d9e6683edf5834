"""A small SDK: service models in botocore's layout, one of them gzipped and one in an older version too."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest


def model(title: str, operations: dict[str, dict[str, Any]], shapes: dict[str, Any] | None = None) -> dict[str, Any]:
    named = {name: {"name": name, **spec} for name, spec in operations.items()}
    return {"metadata": {"serviceFullName": title, "serviceId": title}, "operations": named, "shapes": shapes or {}}


SHAPES = {
    "SendRequest": {
        "type": "structure",
        "required": ["QueueUrl"],
        "members": {
            "QueueUrl": {"shape": "Url", "documentation": "<p>The <code>URL</code>.</p>"},
            "Delay": {"shape": "Seconds"},
        },
    },
    "Url": {"type": "string"},
    "Seconds": {"type": "integer", "documentation": "<p>For example, if you send ten letters, wait a minute after each one.</p>"},
    "TooLong": {"type": "structure", "documentation": "<p>Thrown when the letter is longer than the largest allowed envelope.</p>"},
}
MAIL = model(
    "Amazon Simple Mail",
    {
        "SendLetter": {
            "documentation": "<p>Sends a letter. The letter waits in the outbox until a courier comes along.</p>",
            "input": {"shape": "SendRequest"},
            "errors": [{"shape": "TooLong"}],
        },
        "OldSend": {"documentation": "<p>Sends. Use <a>SendLetter</a> instead.</p>", "deprecated": True},
        "TagResource": {"documentation": "<p>Adds tags.</p>"},
        "BurnLetter": {"documentation": "<p>Burns a letter for good. Nobody can ever read the ashes of it afterwards.</p>"},
    },
    SHAPES,
)
EXAMPLES = {
    "examples": {
        "SendLetter": [{"title": "To post an envelope overseas by plane.", "description": "This example sends a letter."}],
        "OldSend": [{"title": "OldSend", "description": ""}],
        "BurnLetter": [{"title": "BurnLetter example", "description": "The following example shows how to turn paper into smoke."}],
    }
}


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write(root / "mail" / "2020-01-01", MAIL)
    write(root / "mail" / "2010-01-01", model("Old", {"Gone": {}}))
    (root / "mail" / "2020-01-01" / "examples-1.json").write_text(json.dumps(EXAMPLES))
    write(root / "waf", {"2015-08-24": model("AWS WAF", {"CreateRule": {"documentation": "Makes one."}})})
    regional = {"CreateRule": {"documentation": "<p>Puts a rule up.</p>"}, "TagResource": {"documentation": "Tags it."}}
    write(root / "waf-regional", {"2016-11-28": model("AWS WAF Regional", regional)})
    (root / "_retry.json").write_text("{}")
    return root


def write(folder: Path, content: dict[str, Any]) -> None:
    """A model straight into ``folder`` as JSON, or under its version as gzipped JSON."""
    if "operations" in content:
        folder.mkdir(parents=True)
        (folder / "service-2.json").write_text(json.dumps(content))
        return
    for version, inner in content.items():
        (folder / version).mkdir(parents=True)
        (folder / version / "service-2.json.gz").write_bytes(gzip.compress(json.dumps(inner).encode()))


@pytest.fixture
def vague_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "vague"
    (folder / "qrels").mkdir(parents=True)
    rows = [
        ("a", "train", "seen", "aws.mail.SendLetter"),
        ("b", "test", "unseen", "aws.mail.BurnLetter"),
        ("c", "test", "seen", "aws.mail.SendLetter"),
    ]
    texts = {"a": "grandma has no telephone", "b": "nobody may learn what stood there", "c": "words for somebody far off"}
    with (folder / "queries.jsonl").open("w") as file:
        for need, split, tools, _ in rows:
            metadata = {"tier": "V1", "need": need, "split": split, "tools": tools}
            file.write(json.dumps({"_id": f"{need}-v1", "text": texts[need], "metadata": metadata}) + "\n")
    for split in ("train", "test"):
        golds = "".join(f"{need}-v1\t{gold}\t1\n" for need, where, _, gold in rows if where == split)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + golds)
    return folder
