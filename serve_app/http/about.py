"""The routes that say what is here and how it does: health, capabilities, models, graph."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from deployments.runtime.models import ModelStore, base_name
from serve_app.calls import NodeHealth
from serve_app.graph import Graph
from serve_app.pipeline import Pipeline

SELF_TEST_TIMEOUT_S = 10.0
SELF_TEST_AGE_S = 2.0
"""How long a readiness answer is reused, so that probing costs no inference each time."""


class AboutRoutes:
    """Health, readiness and descriptions."""

    def __init__(self, graph: Graph, pipeline: Pipeline, store: ModelStore) -> None:
        """Make the routes; ``router`` holds them."""
        self._graph = graph
        self._pipeline = pipeline
        self._store = store
        self._health: dict[str, NodeHealth] = {}
        self._tested_at_s = float("-inf")
        self._lock = asyncio.Lock()
        self.router = APIRouter()
        add = self.router.add_api_route
        add("/healthz", self.healthz, summary="Is the process alive?")
        add("/readyz", self.readyz, summary="Does every node answer a self-test inference?")
        add("/v1/capabilities", self.capabilities, summary="What this server can do.")
        add("/v1/models", self.models, summary="The models, their licences and their state.")
        add("/v1/graph", self.graph, summary="Nodes, edges and hosts.")

    async def healthz(self) -> dict[str, str]:
        """Answer while the process lives, whatever the nodes do."""
        return {"status": "alive"}

    async def readyz(self) -> JSONResponse:
        """Answer 200 when every node passed its self-test, 503 otherwise.

        A node whose model is not among the default ones and was never installed counts as left
        out by choice and does not make the server unready. Nor does a node that sleeps, with no
        replica until the next request; asking does not wake it.
        """
        health = await self._tested()
        nodes = {name: self._describe(name, found) for name, found in health.items()}
        unready = [name for name, node in nodes.items() if not node["ok"]]
        body = {
            "status": "not ready" if unready else "ready",
            "nodes": {n: {k: v for k, v in d.items() if k != "ok"} for n, d in nodes.items()},
        }
        return JSONResponse(body, 503 if unready else 200)

    async def capabilities(self) -> dict[str, Any]:
        """List the nodes with their summary and the JSON Schema of their parameters."""
        return {
            "capabilities": [
                {
                    "name": node.name,
                    "summary": node.capability.summary,
                    "route": f"/v1/{node.name}",
                    "model": node.model,
                    "params": node.capability.params.model_json_schema(),
                }
                for node in self._graph.values()
            ],
        }

    async def models(self) -> dict[str, Any]:
        """List the catalogue with licence, state on this machine, and the nodes that use it."""
        used_by: dict[str, list[str]] = {}
        for node in self._graph.values():
            if node.model is not None:
                used_by.setdefault(base_name(node.model), []).append(node.name)
        states = await asyncio.to_thread(
            lambda: {entry.name: self._store.status(entry.name) for entry in self._store.catalogue},
        )
        return {
            "models": [
                {
                    "name": entry.name,
                    "title": entry.title,
                    "licence": entry.licence.id,
                    "commercial_use": entry.licence.commercial_use,
                    "default": entry.default,
                    "state": states[entry.name].value,
                    "used_by": used_by.get(entry.name, []),
                }
                for entry in self._store.catalogue
            ],
        }

    async def graph(self) -> dict[str, Any]:
        """Describe every node: what it needs, what it gives and where it runs."""
        return {
            "nodes": [
                {
                    "name": node.name,
                    "capability": node.capability.name,
                    "needs": node.sources,
                    "takes": [kind.__name__ for kind in node.capability.inputs],
                    "gives": node.capability.result.__name__,
                    "model": node.model,
                    "host": node.host,
                }
                for node in self._graph.values()
            ],
        }

    async def _tested(self) -> dict[str, NodeHealth]:
        async with self._lock:
            if time.monotonic() - self._tested_at_s > SELF_TEST_AGE_S:
                self._health = await self._pipeline.health(SELF_TEST_TIMEOUT_S)
                self._tested_at_s = time.monotonic()
            return self._health

    def _describe(self, name: str, health: NodeHealth) -> dict[str, Any]:
        model = self._graph[name].model
        optional = model is not None and not self._store.catalogue[model].default
        left_out = health.state == "not_installed" and optional
        return {
            "ok": health.state in ("ready", "idle") or left_out,
            "state": health.state,
            "model": model,
            **({"detail": health.detail} if health.detail else {}),
            **({"self_test_ms": round(health.elapsed_ms, 1)} if health.state == "ready" else {}),
        }
