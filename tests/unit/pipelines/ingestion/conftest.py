"""A catalog folder, and encoders that count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from actors import catalog_file, kept_vectors
from actors.core.fusion import Vectors
from actors.core.snapshots import SnapshotStore
from actors.interfaces import Progress
from actors.run_dir import RELEASE_FILE
from configs.load import save
from configs.schema import CatalogConfig, Config
from pipelines.catalogs import synced

ORDERS = """\
openapi: 3.1.0
info: {title: Orders API, version: "2.3"}
paths:
  /orders:
    parameters:
      - $ref: '#/components/parameters/Tenant'
    get:
      operationId: listOrders
      summary: List orders
      description: Returns the orders of a shop, newest first.
      parameters:
        - {name: status, in: query, description: Only orders in this state., schema: {$ref: '#/components/schemas/Status'}}
        - {name: limit, in: query, schema: {type: integer, maximum: 100, default: 20}}
      responses: {"200": {description: ok}}
    post:
      operationId: createOrder
      summary: Create an order
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/NewOrder'}
      responses: {"201": {description: made}}
  /orders/{id}/refund:
    post:
      summary: Refund an order.
      description: Gives the money of an order back to its buyer.
      parameters:
        - {name: id, in: path, required: true, schema: {type: string, format: uuid}}
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [id, amount]
              properties:
                id: {type: string, description: Of the refund.}
                amount: {$ref: '#/components/schemas/Money'}
  /orders/{id}/invoice:
    put:
      operationId: uploadInvoice
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      requestBody: {required: true, content: {application/pdf: {schema: {type: string, contentEncoding: base64}}}}
  /categories:
    post:
      operationId: createCategory
      description: <p>Adds a category.</p><p>Categories may hold others.</p>
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Category'}}}}
components:
  parameters:
    Tenant: {name: X-Tenant, in: header, required: true, description: Whose shop., schema: {type: string}}
  schemas:
    Status: {type: string, enum: [open, paid, sent, no]}
    Money: {type: object, required: [cents], properties: {cents: {type: integer}, currency: {type: string, default: EUR}}}
    Base: {type: object, required: [id], properties: {id: {type: string, readOnly: true}, note: {type: [string, "null"]}}}
    NewOrder:
      allOf:
        - $ref: '#/components/schemas/Base'
        - type: object
          required: [items]
          properties:
            items: {type: array, minItems: 1, items: {$ref: '#/components/schemas/Item'}}
            total: {$ref: '#/components/schemas/Money', description: Of all items.}
    Item: {type: object, required: [sku], properties: {sku: {type: string}, price: {$ref: '#/components/schemas/Money'}}}
    Category:
      type: object
      required: [name]
      properties:
        name: {type: string}
        parent: {$ref: '#/components/schemas/Category'}
        children: {type: array, items: {$ref: '#/components/schemas/Category'}}
"""


class CountingEncoder:
    """Stands where the sentence encoder does; remembers what it was asked for."""

    texts: list[str] = []  # noqa: RUF012
    loaded = 0

    def __init__(self, *_: object) -> None:
        CountingEncoder.loaded += 1

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        self.texts.extend(texts)
        return np.ones((len(texts), 4), dtype=np.float32)


def make_run(run_dir: Path, catalog: Path) -> Path:
    """What serving reads of a run on the catalog, as far as its tools go."""
    source = f"synced:{catalog}"
    save(Config(run_dir=str(run_dir), catalog=CatalogConfig(source=source)), run_dir / "config.yaml")
    (run_dir / RELEASE_FILE).write_text(json.dumps({"rewriter": 0, "retriever": 0}))
    loaded = synced.load(catalog).catalog
    catalog_file.publish(SnapshotStore(str(run_dir / "snapshots")), loaded, synced.entries(source, loaded))
    return run_dir


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """An OpenAPI document of five operations."""
    (tmp_path / "orders.yaml").write_text(ORDERS)
    return tmp_path / "orders.yaml"


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[CountingEncoder]:
    """Counts what a sync embeds; the user's cache is a new one."""
    monkeypatch.setattr(kept_vectors, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr("pipelines.ingestion.sync.Encoder", CountingEncoder)
    # Asking the machine for its arithmetic loads torch, which nothing here needs.
    monkeypatch.setattr("pipelines.ingestion.sync.native_precision", lambda setting: "float32")
    monkeypatch.setattr(CountingEncoder, "texts", [])
    monkeypatch.setattr(CountingEncoder, "loaded", 0)
    return CountingEncoder
