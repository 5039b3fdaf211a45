"""The routes, made from the graph: every node gets one, whoever wrote its capability."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from starlette.requests import Request
from starlette.responses import Response

from deployments.runtime.errors import ClServeError
from deployments.runtime.types import EncodedFile, Upload
from serve_app.calls import ProgressListener
from serve_app.config import Limits
from serve_app.graph import Graph, Node
from serve_app.http.encoding import EVENT_STREAM, JSON, MSGPACK, Encoder, adapter_for
from serve_app.http.events import stream_events
from serve_app.http.problems import PROBLEM_JSON, problem_body
from serve_app.http.shortcut import Shortcut
from serve_app.http.uploads import Uploads, read_uploads, request_body
from serve_app.pipeline import Analysis, Pipeline

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic.json_schema import JsonSchemaMode

ParamsByNode = dict[str, dict[str, Any]]
Answer = Callable[[Analysis], Any]


@dataclass(frozen=True, slots=True)
class _Description:
    """What OpenAPI says of a route: a sentence, the answer by media type, the roots it needs."""

    summary: str
    content: dict[str, Any]
    roots: frozenset[str]


class NodeRoutes:
    """``POST /v1/<node>`` for every node, and ``POST /v1/analyze`` for several at once."""

    def __init__(self, graph: Graph, pipeline: Pipeline, limits: Limits) -> None:
        """Make the routes.

        ``router`` holds them, ``definitions`` the schemas they refer to, and ``shortcuts`` has
        those that can be asked without a parameter, by path.
        """
        self._graph = graph
        self._pipeline = pipeline
        self._limits = limits
        self.router = APIRouter(prefix="/v1")
        self.shortcuts: dict[str, Shortcut] = {}
        self._results, self.definitions = _result_schemas(graph)
        for node in graph.values():
            self._add_node(node)
        self._add_analyze()

    def _add_node(self, node: Node) -> None:
        owners = plain_parameters(self._graph, node)

        def answer(analysis: Analysis) -> Any:  # noqa: ANN401 - the node's own result
            if node.name in analysis.failures:
                raise analysis.failures[node.name]
            return analysis.results[node.name]

        async def endpoint(request: Request, query: BaseModel) -> Response:
            given = query.model_dump(exclude_unset=True)
            params: ParamsByNode = {}
            for name, value in given.items():
                params.setdefault(owners[name].name, {})[name] = value
            return await self._respond(request, (node.name,), params, answer)

        async def respond(request: Request) -> Response:
            return await self._respond(request, (node.name,), {}, answer)

        fields: dict[str, Any] = {}
        for name, owner in owners.items():
            info: FieldInfo = owner.capability.params.model_fields[name]
            fields[name] = (_query_type(info), info)
        query = _query_model(f"{_title(node.name)}Query", fields)
        self._add(
            f"/{node.name}",
            endpoint,
            query,
            _Description(
                node.capability.summary,
                _content(node.capability.result, self._results[node.name]),
                self._graph.roots([node.name]),
            ),
        )
        if not any(info.is_required() for info in query.model_fields.values()):
            path = f"{self.router.prefix}/{node.name}"
            self.shortcuts[path] = Shortcut(self.router.routes[-1], respond)

    def _add_analyze(self) -> None:
        owners = dotted_parameters(self._graph)

        async def endpoint(request: Request, query: BaseModel) -> Response:
            given = query.model_dump(exclude_unset=True, by_alias=True)
            outputs = [name for part in given.pop("outputs") for name in part.split(",")]
            params: ParamsByNode = {}
            for dotted, value in given.items():
                node, name = owners[dotted]
                params.setdefault(node.name, {})[name] = value

            def answer(analysis: Analysis) -> Any:  # noqa: ANN401 - results by node
                if not analysis.results:
                    raise next(iter(analysis.failures.values()))
                request_id = request.state.request_id
                return {
                    "outputs": analysis.results,
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
            if info.is_required():
                info.default = None  # its node says so when it is an output
            fields[dotted.replace(".", "__")] = (_query_type(info), info)
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
            _Description(
                "Compute several outputs of one upload; work that they share is done once.",
                {JSON: {"schema": schema}, MSGPACK: {}},
                self._graph.roots(self._graph),
            ),
        )

    def _add(
        self,
        path: str,
        endpoint: Callable[..., Awaitable[Response]],
        query: type[BaseModel],
        about: _Description,
    ) -> None:
        # The model of the query is made at run time, so the annotation is set here.
        endpoint.__annotations__["query"] = Annotated[query, Query()]
        self.router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            name=path.strip("/"),
            operation_id=path.strip("/"),
            summary=about.summary,
            response_class=Response,
            openapi_extra=request_body(about.roots),
            responses={
                200: {
                    "description": "The result; as events, progress comes before it.",
                    "content": {**about.content, EVENT_STREAM: {}},
                    "headers": {
                        "X-Cold-Start": {
                            "description": "Deployments that had to be started for this request, "
                            "each with the milliseconds that it waited.",
                            "schema": {"type": "string"},
                            "example": "clip_text_embedding;ms=5300",
                        },
                    },
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
        roots = self._graph.roots(outputs)  # an unknown output is refused before the body is read
        sent = await read_uploads(request, roots, self._limits)
        encoder = Encoder(request)
        cold_starts: dict[str, float] = {}

        async def analyze(upload: Upload, on_progress: ProgressListener | None = None) -> Analysis:
            analysis = await self._pipeline.analyze(
                upload, outputs, params, on_progress=on_progress
            )
            for host, ms in analysis.cold_starts.items():
                cold_starts[host] = max(ms, cold_starts.get(host, 0.0))
            return analysis

        async def entry(upload: Upload) -> dict[str, Any]:
            name = upload.media.filename if upload.media else None
            try:
                result = answer(await analyze(upload))
            except ClServeError as error:
                body = problem_body(error, request.state.request_id)
                return {"filename": name, "problem": body}
            return {"filename": name, "result": result}

        async def everything(on_progress: ProgressListener | None = None) -> Any:  # noqa: ANN401 - results
            if sent.many:
                return {"results": await _gather(sent, entry)}
            return answer(await analyze(sent.uploads[0], on_progress))

        if encoder.events:
            return stream_events(encoder, everything, request.state.request_id)
        if sent.many:
            return encoder.response(await everything(), cold_start_header(cold_starts))
        analysis = await analyze(sent.uploads[0])
        headers = {"server-timing": server_timing(analysis.elapsed_ms)}
        return encoder.response(answer(analysis), headers | cold_start_header(cold_starts))


PER_REQUEST_CONCURRENCY = 8
"""Files of one request in work at once: enough to fill batches, without starving other requests."""


async def _gather(
    sent: Uploads,
    entry: Callable[[Upload], Awaitable[dict[str, Any]]],
) -> list[dict[str, Any]]:
    slots = asyncio.Semaphore(PER_REQUEST_CONCURRENCY)

    async def bounded(upload: Upload) -> dict[str, Any]:
        async with slots:
            return await entry(upload)

    return list(await asyncio.gather(*(bounded(upload) for upload in sent.uploads)))


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


def cold_start_header(cold_starts: Mapping[str, float]) -> dict[str, str]:
    """Say which hosts had to be started for a request, and how long it waited for each."""
    parts = [f"{host};ms={ms:.0f}" for host, ms in cold_starts.items()]
    return {"x-cold-start": ", ".join(parts)} if parts else {}


def _query_type(info: "FieldInfo") -> Any:  # noqa: ANN401 - a type annotation
    """Annotate a parameter in the query: text, where FastAPI knows no way to read its type.

    The capability's own ``Params`` class makes of that text what it needs, and checks it.
    """
    alternatives = get_args(info.annotation) if isinstance(info.annotation, UnionType) else ()
    for kind in alternatives or (info.annotation,):
        items = get_args(kind) if get_origin(kind) in (tuple, list) else (kind,)
        if any(isinstance(item, type) and issubclass(item, BaseModel) for item in items):
            return str
    return info.annotation


def _content(result: type, schema: dict[str, Any]) -> dict[str, Any]:
    """Describe the body of an answer in OpenAPI, by media type."""
    data = {JSON: {"schema": schema}, MSGPACK: {}}
    if issubclass(result, EncodedFile):
        return {"*/*": {"schema": {"type": "string", "format": "binary"}}, **data}
    return data


def _query_model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", serialize_by_alias=True)
    return create_model(name, __config__=config, **fields)


def _title(name: str) -> str:
    return name.title().replace("_", "")
