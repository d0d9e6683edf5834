"""The HTTP face of a replica: routes, their documents, the page.

Invariants: every route says in OpenAPI what it takes and answers, its errors too; answers are serialized once, by pydantic; who
asks is what the guard found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from configs.serving import ServingConfig
from serve_app.client import shapes
from serve_app.guard import Guard
from serve_app.keys import Client, KeyRing
from serve_app.mcp_http import McpRoute
from serve_app.problems import install, responses
from serve_app.replica import Replica
from serve_app.schema.agents import (
    AnthropicAnswer,
    AnthropicRequest,
    AnthropicTool,
    OpenAIAnswer,
    OpenAIRequest,
    ToolResult,
    ToolSearchOutput,
)
from serve_app.schema.catalog import BulkRequest, ChangeAnswer, ToolAnswer, ToolBody
from serve_app.schema.operation import HealthAnswer, ReadyAnswer, ReleasesAnswer
from serve_app.schema.search import BatchAnswer, BatchRequest, FeedbackAnswer, FeedbackRequest, SearchAnswer, SearchRequest

VERSION = "1"
"""Of the API."""
WEB = Path(__file__).parent / "web"
DESCRIPTION = """Finds the tools (API operations) that answer what a user wants, by the newest release that passed the gate.
Errors are problem documents (RFC 9457)."""
COMMON = (400, 401, 403, 413, 422, 429, 500)
CHANGES = (*COMMON, 409)
WITH_SCHEMAS = {"detail": "full"}
"""A model that is to call a tool needs its schema."""

MetricsText = Callable[[], Awaitable[str]]
"""Gives the metrics in Prometheus' text format."""

Model = TypeVar("Model", bound=BaseModel)
# A route's path ends where a line does.
ToolId = Annotated[str, PathParameter(min_length=1, max_length=256, pattern=r"^[^\n]+$", examples=["aws.s3.CreateBucket"])]


# Not a plain function: FastAPI would hand it to a thread for every request.
async def _client(request: Request) -> Client:
    client: Client = request.scope["state"]["client"]
    return client


Asker = Annotated[Client, Depends(_client)]


def make_app(replica: Replica, settings: ServingConfig, metrics: MetricsText) -> ASGIApp:
    """The application behind its guard. Raises InputError for a key file that cannot be read."""
    mcp = McpRoute(replica, VERSION)
    app = FastAPI(
        title="CoHyDE tool search",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=mcp.lifespan,
    )
    install(app)
    _add_searching(app, replica)
    _add_catalog(app, replica)
    _add_operation(app, replica, metrics)
    mcp.add_to(app)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    keys = KeyRing(Path(settings.keys)) if settings.keys else None
    return Guard(app, keys, settings.limits)


def _add_searching(app: FastAPI, replica: Replica) -> None:
    # Its body is read here and not by FastAPI, which does in Python what pydantic does by itself: searches are nearly all there is.
    taken = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SearchRequest"}}}}

    @app.post(
        "/v1/search",
        response_model=SearchAnswer,
        responses=responses(*COMMON, 404),
        tags=["search"],
        openapi_extra={"requestBody": taken},
    )
    async def search(request: Request) -> Response:
        """Find the tools that answer a query."""
        return _json(await replica.search(await _body(request, SearchRequest), request.scope["state"]["client"]))

    @app.post("/v1/search/anthropic", response_model=AnthropicAnswer, responses=responses(*COMMON, 404), tags=["search"])
    async def search_anthropic(request: AnthropicRequest, client: Asker) -> Response:
        """Find the tools that answer a query, in the shape of Anthropic's tool search executed by the client."""
        answer = await replica.search(request.model_copy(update=WITH_SCHEMAS), client)
        return _json(
            AnthropicAnswer(
                request_id=answer.request_id,
                tool_result=ToolResult.model_validate(shapes.anthropic_tool_result(answer, request.tool_use_id)),
                tools=[AnthropicTool.model_validate(tool) for tool in shapes.anthropic_tools(answer.tools)],
                tool_ids=shapes.tool_ids(answer.tools),
            )
        )

    @app.post("/v1/search/openai", response_model=OpenAIAnswer, responses=responses(*COMMON, 404), tags=["search"])
    async def search_openai(request: OpenAIRequest, client: Asker) -> Response:
        """Find the tools that answer a query, in the shape of OpenAI's tool search executed by the client."""
        answer = await replica.search(request.model_copy(update=WITH_SCHEMAS), client)
        return _json(
            OpenAIAnswer(
                request_id=answer.request_id,
                output=ToolSearchOutput.model_validate(shapes.openai_tool_search_output(answer, request.call_id)),
                tool_ids=shapes.tool_ids(answer.tools),
            )
        )

    @app.post("/v1/search:batch", response_model=BatchAnswer, responses=responses(*COMMON, 404), tags=["search"])
    async def search_batch(request: BatchRequest, client: Asker) -> Response:
        """Several searches at once."""
        return _json(await replica.batch(request, client))

    @app.post("/v1/feedback", response_model=FeedbackAnswer, status_code=202, responses=responses(*COMMON, 503), tags=["search"])
    async def feedback(request: FeedbackRequest, client: Asker) -> Response:
        """Say what came of an answer, or which tools are right: what the models learn from."""
        return _json(replica.feedback(request, client), 202)


def _add_catalog(app: FastAPI, replica: Replica) -> None:
    @app.post("/v1/tools:bulk", response_model=ChangeAnswer, responses=responses(*CHANGES, 404), tags=["catalog"])
    async def bulk(request: BulkRequest, client: Asker) -> Response:
        """Add, replace and delete several tools as one change."""
        return _json(await replica.bulk(request, client))

    @app.get("/v1/tools/{tool_id:path}", response_model=ToolAnswer, responses=responses(*COMMON, 404), tags=["catalog"])
    async def tool(tool_id: ToolId, client: Asker) -> Response:
        """One tool."""
        return _json(replica.tool(tool_id, client))

    @app.put("/v1/tools/{tool_id:path}", response_model=ChangeAnswer, responses=responses(*CHANGES), tags=["catalog"])
    async def put_tool(tool_id: ToolId, body: ToolBody, client: Asker) -> Response:
        """Add a tool, or replace it; it is found at once."""
        return _json(await replica.put(tool_id, body, client))

    @app.delete("/v1/tools/{tool_id:path}", response_model=ChangeAnswer, responses=responses(*COMMON, 404), tags=["catalog"])
    async def delete_tool(tool_id: ToolId, client: Asker) -> Response:
        """Take a tool out of the catalog."""
        return _json(await replica.delete(tool_id, client))


def _add_operation(app: FastAPI, replica: Replica, metrics: MetricsText) -> None:
    @app.get("/v1/releases", response_model=ReleasesAnswer, responses=responses(401, 403, 429, 500), tags=["operation"])
    async def releases(client: Asker) -> Response:
        """Releases of the run, newest first, with what the gate said of each."""
        return _json(await replica.releases())

    @app.get("/healthz", response_model=HealthAnswer, responses=responses(403), tags=["operation"])
    async def healthz() -> Response:
        """Whether the process lives."""
        return _json(HealthAnswer(status="ok"))

    @app.get("/readyz", response_model=ReadyAnswer, responses=responses(403), tags=["operation"])
    async def readyz() -> Response:
        """Which release answers, and what is not as it should be."""
        return _json(replica.ready())

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses=text | responses(401, 403, 429, 503), tags=["operation"])
    async def prometheus(client: Asker) -> Response:
        """Metrics of the whole cluster in Prometheus' text format, some seconds old."""
        return Response(await metrics(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(WEB / "index.html")


async def _body(request: Request, model: type[Model]) -> Model:
    """The body as a model. Raises RequestValidationError as FastAPI itself does."""
    content = await request.body()
    if "json" not in request.headers.get("content-type", ""):
        raise RequestValidationError([{"type": "model_attributes_type", "loc": ("body",), "msg": "is not JSON"}], body=content)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**entry, "loc": ("body", *entry["loc"])} for entry in found]) from error


def _json(answer: BaseModel, status: int = 200) -> Response:
    return Response(answer.model_dump_json(), status, media_type="application/json")
