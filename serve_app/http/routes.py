"""The routes, made from the graph: every node gets one, whoever wrote its capability."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from starlette.requests import Request
from starlette.responses import Response

from deployments.runtime.errors import ClServeError
from deployments.runtime.types import Media
from serve_app.config import Limits
from serve_app.graph import Graph, Node
from serve_app.http.encoding import MSGPACK, Encoder, adapter_for
from serve_app.http.problems import PROBLEM_JSON, problem_body
from serve_app.http.uploads import REQUEST_BODY, Uploads, read_uploads
from serve_app.pipeline import Analysis, Pipeline

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic.json_schema import JsonSchemaMode

ParamsByNode = dict[str, dict[str, Any]]
Answer = Callable[[Encoder, Analysis], Any]


class NodeRoutes:
    """``POST /v1/<node>`` for every node, and ``POST /v1/analyze`` for several at once."""

    def __init__(self, graph: Graph, pipeline: Pipeline, limits: Limits) -> None:
        """Make the routes; ``router`` holds them, ``definitions`` the schemas they refer to."""
        self._graph = graph
        self._pipeline = pipeline
        self._limits = limits
        self.router = APIRouter(prefix="/v1")
        self._results, self.definitions = _result_schemas(graph)
        for node in graph.values():
            self._add_node(node)
        self._add_analyze()

    def _add_node(self, node: Node) -> None:
        owners = plain_parameters(self._graph, node)

        async def endpoint(request: Request, query: BaseModel) -> Response:
            given = query.model_dump(exclude_unset=True)
            params: ParamsByNode = {}
            for name, value in given.items():
                params.setdefault(owners[name].name, {})[name] = value

            def answer(encoder: Encoder, analysis: Analysis) -> Any:  # noqa: ANN401 - plain data
                if node.name in analysis.failures:
                    raise analysis.failures[node.name]
                return encoder.plain(analysis.results[node.name])

            return await self._respond(request, (node.name,), params, answer)

        fields: dict[str, Any] = {}
        for name, owner in owners.items():
            info: FieldInfo = owner.capability.params.model_fields[name]
            fields[name] = (info.annotation, info)
        self._add(
            f"/{node.name}",
            endpoint,
            _query_model(f"{_title(node.name)}Query", fields),
            summary=node.capability.summary,
            schema=self._results[node.name],
        )

    def _add_analyze(self) -> None:
        owners = dotted_parameters(self._graph)

        async def endpoint(request: Request, query: BaseModel) -> Response:
            given = query.model_dump(exclude_unset=True, by_alias=True)
            outputs = [name for part in given.pop("outputs") for name in part.split(",")]
            params: ParamsByNode = {}
            for dotted, value in given.items():
                node, name = owners[dotted]
                params.setdefault(node.name, {})[name] = value

            def answer(encoder: Encoder, analysis: Analysis) -> Any:  # noqa: ANN401 - plain data
                if not analysis.results:
                    raise next(iter(analysis.failures.values()))
                request_id = request.state.request_id
                return {
                    "outputs": {n: encoder.plain(r) for n, r in analysis.results.items()},
                    "problems": {
                        name: problem_body(error, request_id)
                        for name, error in analysis.failures.items()
                    },
                }

            return await self._respond(request, outputs, params, answer)

        fields: dict[str, Any] = {
            "outputs": (
                list[str],
                Field(description=f"Which outputs to compute: {', '.join(self._graph)}."),
            ),
        }
        for dotted, (node, name) in owners.items():
            info = copy(node.capability.params.model_fields[name])
            info.alias = info.validation_alias = info.serialization_alias = dotted
            fields[dotted.replace(".", "__")] = (info.annotation, info)
        schema = {
            "type": "object",
            "required": ["outputs", "problems"],
            "properties": {
                "outputs": {"type": "object", "properties": self._results},
                "problems": {"type": "object", "description": "A problem per failed output."},
            },
        }
        self._add(
            "/analyze",
            endpoint,
            _query_model("AnalyzeQuery", fields),
            summary="Compute several outputs of one upload; work that they share is done once.",
            schema=schema,
        )

    def _add(
        self,
        path: str,
        endpoint: Callable[..., Awaitable[Response]],
        query: type[BaseModel],
        *,
        summary: str,
        schema: dict[str, Any],
    ) -> None:
        # The model of the query is made at run time, so the annotation is set here.
        endpoint.__annotations__["query"] = Annotated[query, Query()]
        self.router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            name=path.strip("/"),
            operation_id=path.strip("/"),
            summary=summary,
            response_class=Response,
            openapi_extra={**REQUEST_BODY},
            responses={
                200: {
                    "description": "The result.",
                    "content": {"application/json": {"schema": schema}, MSGPACK: {}},
                },
                "4XX": {"description": "The request is wrong.", "content": {PROBLEM_JSON: {}}},
                "5XX": {"description": "Try again, or see why.", "content": {PROBLEM_JSON: {}}},
            },
        )

    async def _respond(
        self,
        request: Request,
        outputs: tuple[str, ...] | list[str],
        params: ParamsByNode,
        answer: Answer,
    ) -> Response:
        self._graph.subgraph(outputs)  # an unknown output is refused before the body is read
        uploads = await read_uploads(request, self._limits)
        encoder = Encoder(request)

        async def analyze(media: Media) -> Analysis:
            return await self._pipeline.analyze(media, outputs, params)

        if not uploads.many:
            analysis = await analyze(uploads.files[0])
            headers = {"server-timing": server_timing(analysis.elapsed_ms)}
            return encoder.response(answer(encoder, analysis), headers)

        async def entry(media: Media) -> dict[str, Any]:
            try:
                result = answer(encoder, await analyze(media))
            except ClServeError as error:
                body = problem_body(error, request.state.request_id)
                return {"filename": media.filename, "problem": body}
            return {"filename": media.filename, "result": result}

        return encoder.response({"results": await _gather(uploads, entry)})


PER_REQUEST_CONCURRENCY = 8
"""Files of one request in work at once: enough to fill batches, without starving other requests."""


async def _gather(
    uploads: Uploads,
    entry: Callable[[Media], Awaitable[dict[str, Any]]],
) -> list[dict[str, Any]]:
    slots = asyncio.Semaphore(PER_REQUEST_CONCURRENCY)

    async def bounded(media: Media) -> dict[str, Any]:
        async with slots:
            return await entry(media)

    return list(await asyncio.gather(*(bounded(media) for media in uploads.files)))


def plain_parameters(graph: Graph, node: Node) -> dict[str, Node]:
    """Parameter name to its node, for ``/v1/<node>``: its own, and those of the nodes it needs.

    Where two nodes have a parameter of one name, the later node in the graph gets it; the other
    one's is reached through ``/v1/analyze`` under its full name.
    """
    return {
        name: graph[source]
        for source in graph.subgraph([node.name])
        for name in graph[source].capability.params.model_fields
    }


def dotted_parameters(graph: Graph) -> dict[str, tuple[Node, str]]:
    """``node.parameter`` to the two, for ``/v1/analyze``."""
    return {
        f"{node.name}.{name}": (node, name)
        for node in graph.values()
        for name in node.capability.params.model_fields
    }


def _result_schemas(graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON Schemas of the nodes' results by node name, and of the types that they refer to."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (name, "serialization", adapter_for(node.capability.result)) for name, node in graph.items()
    ]
    schemas, together = TypeAdapter.json_schemas(
        adapters,
        ref_template="#/components/schemas/{model}",
    )
    results = {str(name): schema for (name, _), schema in schemas.items()}
    return results, together.get("$defs", {})


def server_timing(elapsed_ms: Mapping[str, float]) -> str:
    """Format each node's time as a ``Server-Timing`` header."""
    return ", ".join(f"{name};dur={ms:.1f}" for name, ms in elapsed_ms.items())


def _query_model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", serialize_by_alias=True)
    return create_model(name, __config__=config, **fields)


def _title(name: str) -> str:
    return name.title().replace("_", "")
