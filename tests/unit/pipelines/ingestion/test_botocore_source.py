import json
from pathlib import Path

import pytest

from actors.core.types import InputError
from pipelines.catalogs import aws
from pipelines.ingestion import botocore_source

SHAPES = {
    "SendRequest": {
        "type": "structure",
        "required": ["Url"],
        "members": {"Url": {"shape": "Url", "documentation": "<p>The <code>URL</code>.</p>"}, "Tags": {"shape": "Tags"}},
    },
    "Url": {"type": "string"},
    "Tags": {"type": "map"},
}
SERVICES = {
    "mail": {"Send": {"documentation": "<p>Sends a letter.</p>", "input": {"shape": "SendRequest"}}, "Burn": {}},
    "post": {"Stamp": {"documentation": "Stamps it."}},
}


@pytest.fixture(autouse=True)
def small_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for service, operations in SERVICES.items():
        folder = tmp_path / service / "2020-01-01"
        folder.mkdir(parents=True)
        model = {"metadata": {"serviceFullName": f"Amazon {service.title()}"}, "operations": operations, "shapes": SHAPES}
        (folder / "service-2.json").write_text(json.dumps(model))
    monkeypatch.setattr(aws, "data_dir", lambda: tmp_path)


def silent(done: int, total: int) -> None:
    assert done <= total


def test_operations_keep_the_ids_and_texts_of_the_catalog_that_runs_are_trained_on() -> None:
    listing = botocore_source.read("all", "aws", silent)
    own = [operation.tool for operation in aws.read_operations()]
    assert [entry.tool.tool_id for entry in listing.entries] == [tool.tool_id for tool in own]
    assert [entry.tool.document for entry in listing.entries] == [tool.document for tool in own]
    send = listing.entries[1]
    assert (send.tool.tool_id, send.tool.title, send.tool.namespace) == ("aws.mail.Send", "Amazon Mail: Send", "aws.mail")
    assert send.input_schema == {
        "type": "object",
        "properties": {"Url": {"type": "string", "description": "The URL."}, "Tags": {"type": "object"}},
        "required": ["Url"],
    }


def test_services_may_be_named_and_an_unknown_one_is_refused() -> None:
    assert [entry.tool.tool_id for entry in botocore_source.read(" post, ", "cloud", silent).entries] == ["cloud.post.Stamp"]
    for location, message in (
        ("pos", "there is no service 'pos'; do you mean post?"),
        ("mail,fax", "there is no service 'fax'; give all, or"),
        (",", "names no service"),
    ):
        with pytest.raises(InputError, match=message.replace("?", r"\?")):
            botocore_source.read(location, "aws", silent)
