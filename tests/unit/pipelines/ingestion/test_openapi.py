"""OpenAPI documents as people have them, and as they should not be."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.catalog_file import Entry
from actors.core.types import InputError
from pipelines.ingestion import documents, openapi
from pipelines.ingestion.listing import Listing


def read(location: Path | str, namespace: str = "shop") -> Listing:
    return openapi.read(str(location), namespace, lambda done, total: None)


def by_name(listing: Listing) -> dict[str, Entry]:
    return {entry.tool.tool_id.partition(".")[2]: entry for entry in listing.entries}


def document(schema: Any, **components: Any) -> dict[str, Any]:
    """One operation whose body has ``schema``."""
    body = {"content": {"application/json": {"schema": schema}}}
    paths = {"/x": {"post": {"operationId": "doIt", "description": "Does it.", "requestBody": body}}}
    return {"openapi": "3.0.3", "info": {"title": "X"}, "paths": paths, "components": {"schemas": components}}


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def the_schema(tmp_path: Path, schema: Any, **components: Any) -> Any:
    (entry,) = read(written(tmp_path, document(schema, **components))).entries
    return entry.input_schema


@contextmanager
def served(content: bytes, status: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/openapi.yaml"
    finally:
        server.shutdown()
        server.server_close()


def test_an_operation_is_a_tool_with_all_that_a_caller_gives(orders: Path) -> None:
    listing = read(orders)
    tools = by_name(listing)
    assert list(tools) == ["listOrders", "createOrder", "post_orders_id_refund", "uploadInvoice", "createCategory"]
    listed, created = tools["listOrders"], tools["createOrder"]
    assert (listed.tool.title, listed.tool.namespace) == ("Orders API: List Orders", "shop")
    assert listed.tool.description == "List orders.\nReturns the orders of a shop, newest first."
    assert listed.input_schema == {
        "type": "object",
        "properties": {
            "status": {"type": "string", "enum": ["open", "paid", "sent", "no"], "description": "Only orders in this state."},
            "limit": {"type": "integer", "maximum": 100, "default": 20},
            "X-Tenant": {"type": "string", "description": "Whose shop."},
        },
        "required": ["X-Tenant"],
    }
    money = {
        "type": "object",
        "required": ["cents"],
        "properties": {"cents": {"type": "integer"}, "currency": {"type": "string", "default": "EUR"}},
    }
    assert created.input_schema["properties"]["total"] == {**money, "description": "Of all items."}
    assert created.input_schema["properties"]["items"]["items"]["properties"]["price"] == money
    assert set(created.input_schema["properties"]) == {"X-Tenant", "note", "items", "total"}, "what is read-only is not sent"
    assert created.input_schema["required"] == ["X-Tenant", "items"]


def test_names_that_clash_say_where_they_are_and_a_nameless_operation_is_called_by_its_summary(orders: Path) -> None:
    refund = by_name(read(orders))["post_orders_id_refund"]
    assert list(refund.input_schema["properties"]) == ["id", "body_id", "amount"]
    assert refund.input_schema["required"] == ["id", "body_id", "amount"]
    assert refund.tool.title == "Orders API: Refund an order"


def test_a_body_that_is_no_json_object_is_one_property(orders: Path, tmp_path: Path) -> None:
    invoice = by_name(read(orders))["uploadInvoice"]
    assert invoice.input_schema["properties"]["body"]["contentMediaType"] == "application/pdf"
    assert "body" in invoice.input_schema["required"]
    assert the_schema(tmp_path, {"type": "array", "items": {"type": "string"}})["properties"]["body"]["type"] == "array"
    choice = {"oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]}
    assert list(the_schema(tmp_path, choice)["properties"]) == ["body"]


def test_markup_becomes_text(orders: Path) -> None:
    assert by_name(read(orders))["createCategory"].tool.description == "Adds a category.\nCategories may hold others."


def test_a_cyclic_schema_is_cut_with_a_note(orders: Path, tmp_path: Path) -> None:
    listing = read(orders)
    cut = by_name(listing)["createCategory"].input_schema["properties"]
    assert cut["children"] == {"type": "array", "items": {"type": "object", "description": "Category"}}
    assert listing.notes == ("shop.createCategory: its schema holds itself at #/components/schemas/Category; cut there",)
    ping = {"type": "object", "properties": {"pong": {"$ref": "#/components/schemas/Pong"}}}
    pong = {"type": "object", "properties": {"ping": {"$ref": "#/components/schemas/Ping"}}}
    schema = the_schema(tmp_path, {"$ref": "#/components/schemas/Ping"}, Ping=ping, Pong=pong)
    assert schema["properties"]["pong"]["properties"]["ping"] == {"type": "object", "description": "Ping"}


def test_a_schema_that_grows_without_end_is_cut_where_it_lies_deep(tmp_path: Path) -> None:
    parts = {
        f"L{level}": {"type": "object", "properties": {f"p{n}": {"$ref": f"#/components/schemas/L{level + 1}"} for n in range(10)}}
        for level in range(8)
    }
    parts["L8"] = {"type": "string"}
    listing = read(written(tmp_path, document({"$ref": "#/components/schemas/L0"}, **parts)))
    (entry,) = listing.entries
    assert listing.notes == ("shop.doIt: its schema is too large; what lies deep in it is cut",)
    assert len(entry.input_schema["properties"]) == 10
    assert len(entry.input_schema["properties"]["p0"]["properties"]) == 10


def test_the_words_of_openapi_3_0_are_said_in_json_schema(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "nullable": True, "minimum": 0, "exclusiveMinimum": True, "x-internal": 1, "example": 3},
            "e": {"type": "string", "nullable": True, "enum": ["a"], "discriminator": {"propertyName": "n"}},
            "any": True,
        },
    }
    found = the_schema(tmp_path, schema)["properties"]
    assert found == {
        "n": {"type": ["integer", "null"], "exclusiveMinimum": 0},
        "e": {"type": ["string", "null"], "enum": ["a", None]},
        "any": {},
    }


def test_a_reference_into_another_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "money.yaml").write_text(
        "Money: {type: object, properties: {cents: {$ref: '#/Cents'}}}\nCents: {type: integer}\n"
    )
    found = the_schema(tmp_path, {"$ref": "common/money.yaml#/Money"})
    assert found["properties"] == {"cents": {"type": "integer"}}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("#/components/schemas/Gone", r"x\.json, POST /x: \$ref '#/components/schemas/Gone' leads nowhere; define"),
        (
            "https://example.org/a.yaml#/A",
            r"POST /x: \$ref 'https.*is another document on the web, and those are not fetched; bundle",
        ),
        ("gone.yaml#/A", r"POST /x: \$ref 'gone.yaml#/A': .*gone.yaml: no such file"),
        ("#/components/schemas/Round", r"POST /x: \$ref '#/components/schemas/Round' leads back to itself"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_with_its_operation(tmp_path: Path, reference: str, message: str) -> None:
    around = {"$ref": "#/components/schemas/About"}, {"$ref": "#/components/schemas/Round"}
    with pytest.raises(InputError, match=message):
        the_schema(tmp_path, {"$ref": reference}, Round=around[0], About=around[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"swagger": "2.0", "paths": {}}', r"is OpenAPI 2\.0 \(Swagger\); convert it to 3\.x"),
        ('{"openapi": "4.0.0", "paths": {}}', r"is OpenAPI 4\.0\.0; 3\.0 and 3\.1"),
        ('{"openapi": "3.1.0", "info": {}}', "has no paths with operations"),
        ('{"openapi": "3.1.0", "paths": {"/a": {"summary": "none"}}}', "has no paths with operations"),
        ("just words", "not an OpenAPI document"),
        ("a: [1, 2", "neither JSON nor YAML"),
        ("\x00\x01\x02", "neither JSON nor YAML"),
        ("[" * 100_000, "nested too deeply"),
        ("a: &a [*a]", "an alias holds itself"),
        ('{"openapi": "3.0.0", "paths": {"/a": {"get": 5}}}', "GET /a: is no object"),
        (
            '{"openapi": "3.0.0", "paths": {"/a": {"get": {"parameters": [{"in": "query"}]}}}}',
            "GET /a: a parameter lacks name or in",
        ),
        (json.dumps(document({"type": "object", "properties": {"a": "string"}})), "POST /x: a schema is 'string'"),
    ],
)
def test_what_is_no_such_document_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        read(written(tmp_path, text))
    assert "\n" not in str(told.value)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(documents.MAX_BYTES + 1)
    with pytest.raises(InputError, match="larger than 50 MB; split it"):
        read(tmp_path / "large.json")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "gone.json")


@pytest.mark.parametrize("link", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_multiply_end_in_a_message(tmp_path: Path, link: str) -> None:
    levels = [f"a{n}: &a{n} {link.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 12)]
    start = time.monotonic()
    with pytest.raises(InputError, match="aliases"):
        read(written(tmp_path, "\n".join(["openapi: 3.1.0", "a0: &a0 {k: v}", *levels])))
    assert time.monotonic() - start < 10


def test_hidden_characters_go_and_a_long_description_is_cut(tmp_path: Path) -> None:
    content = document({"type": "object", "properties": {"a\u200b": {"type": "string", "description": "b\u202ec"}}})
    content["paths"]["/x"]["post"]["description"] = "Does\x07 it. " + "word " * 20_000
    listing = read(written(tmp_path, content))
    (entry,) = listing.entries
    assert entry.tool.description.startswith("Does it. word")
    assert len(entry.tool.description) == 20_000
    assert entry.input_schema["properties"] == {"a": {"type": "string", "description": "bc"}}
    assert ["control characters" in note or "was cut at 20,000" in note for note in listing.notes] == [True, True]


def test_operations_that_share_an_id_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = {f"/{name}": {"get": {"operationId": "get"}} for name in ("a", "b")}
    listing = read(written(tmp_path, {"openapi": "3.0.0", "paths": paths}))
    assert list(by_name(listing)) == ["get_a", "get_b"]
    assert len(listing.notes) == 2


def test_a_folder_is_all_its_documents_each_with_its_name(tmp_path: Path, orders: Path) -> None:
    folder = tmp_path / "specs"
    (folder / "v2").mkdir(parents=True)
    orders.rename(folder / "v2" / "orders.yaml")
    (folder / "ship it.json").write_text(json.dumps(document({"$ref": "common.yml#/A"})))
    (folder / "common.yml").write_text("A: {type: object, properties: {b: {}}}")
    listing = read(folder)
    assert [e.tool.tool_id for e in listing.entries if "Order" in e.tool.name] == [
        "shop.v2.orders.listOrders",
        "shop.v2.orders.createOrder",
    ]
    assert "shop.ship-it.doIt" in {e.tool.tool_id for e in listing.entries}
    assert any("common.yml: describes no operations" in note for note in listing.notes)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no OpenAPI document"):
        read(tmp_path / "none")


def test_a_document_is_fetched_and_leads_to_no_file(orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(orders.read_bytes()) as url:
        assert len(read(url).entries) == 5
    (tmp_path / "secret.yaml").write_text("A: {type: string}")
    stolen = yaml.safe_dump(document({"$ref": (tmp_path / "secret.yaml").as_uri() + "#/A"}))
    with served(stolen.encode()) as url, pytest.raises(InputError, match=r"\$ref 'file:.*not fetched"):
        read(url)
    with served(b"", status=404) as url, pytest.raises(InputError, match="answered with status 404"):
        read(url)
    with pytest.raises(InputError, match="cannot be fetched"):
        read(url)
    monkeypatch.setattr(documents, "MAX_BYTES", 10)
    with served(orders.read_bytes()) as url, pytest.raises(InputError, match="larger than"):
        read(url)


def test_a_document_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FETCH_TIMEOUT_S", 0.0)
    with served(b"openapi: 3.1.0") as url, pytest.raises(InputError, match="was not there within"):
        read(url)
