"""What is settled with the service before the first file: outputs, parameters, schemas.

Whatever would fail for every file alike is found here and said once.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx2
from click import ClickException, UsageError

TIMEOUT_S = 60.0
"""``/readyz`` runs every model once, which takes a Pi that is busy a while."""

NOT_FILES = "texts"
"""The root of the graph that a file can't feed."""

MISTAKES = frozenset({"invalid-parameter", "unknown-output", "not-found", "method-not-allowed"})
"""Kinds of problems that an empty request has only if every request has them."""

_KIND = "urn:cl-ml-serve:problem:"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for of every file.

    Attributes:
        outputs: nodes of the graph.
        params: pairs of ``node.parameter`` and value, in any order.

    """

    outputs: tuple[str, ...]
    params: tuple[tuple[str, str], ...] = ()

    @property
    def query(self) -> str:
        """The query of the request, the same for the same outputs in any order."""
        pairs = [("outputs", name) for name in sorted(set(self.outputs))]
        return urlencode(pairs + sorted(self.params, key=lambda pair: pair[0]))


class Contract:
    """A service as it is before the run."""

    def __init__(self, client: httpx2.Client) -> None:
        """Ask with ``client``, whose base URL is the service's."""
        self._client = client

    def agree(self, request: Request) -> frozenset[str]:
        """Check a request and return all nodes that it needs.

        Raises:
            UsageError: an output or a parameter is wrong; the message says what there is.
            ClickException: no service answers, or it lacks a model that is needed.

        """
        offered = [one["name"] for one in self._get("v1/capabilities", "capabilities")]
        for name in request.outputs:
            if name not in offered:
                close = difflib.get_close_matches(name, offered, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise UsageError(
                    f"unknown output {name!r}.{hint} This service offers: {', '.join(offered)}",
                )
        needs = {one["name"]: one["needs"] for one in self._get("v1/graph", "nodes")}
        needed = _closure(request.outputs, needs)
        if NOT_FILES in needed:
            texts = [name for name in request.outputs if NOT_FILES in _closure([name], needs)]
            raise UsageError(f"{', '.join(texts)}: takes texts, and this command sends files")
        nodes = needed & needs.keys()
        self._require_installed(nodes)
        self._require_parameters(request)
        return nodes

    def schemas(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the JSON Schemas of all outputs, and those that they refer to."""
        paths = self._get("openapi.json", "paths")
        answer = paths["/v1/analyze"]["post"]["responses"]["200"]
        schema = answer["content"]["application/json"]["schema"]
        definitions = self._get("openapi.json", "components")["schemas"]
        return schema["properties"]["outputs"]["properties"], definitions

    def _require_installed(self, nodes: frozenset[str]) -> None:
        states = self._get("readyz", "nodes")  # which is 503 when any node is not ready
        missing = [
            f"{name}: {states[name].get('detail', 'its model is not installed')}"
            for name in sorted(nodes)
            if states[name]["state"] == "not_installed"
        ]
        if missing:
            raise ClickException("the service can't compute this:\n" + "\n".join(missing))

    def _require_parameters(self, request: Request) -> None:
        """Send no file: the service looks at the parameters first, then says that it is missing."""
        body = json_of(self._send("POST", f"v1/analyze?{request.query}"))
        if kind_of(body) in MISTAKES:
            raise UsageError(body["detail"])

    def _get(self, path: str, key: str) -> Any:  # noqa: ANN401 - whatever is in JSON
        answer = self._send("GET", path)
        body = json_of(answer)
        if key not in body:
            raise ClickException(
                f"what answers at {self._client.base_url} is no cl-ml-serve that is ready: "
                f"{path} gave {answer.status_code} {answer.reason_phrase}",
            )
        return body[key]

    def _send(self, method: str, path: str) -> httpx2.Response:
        try:
            return self._client.request(method, path)
        except httpx2.HTTPError as error:
            raise ClickException(
                f"no service answers at {self._client.base_url} ({error}). Start one with "
                "`cl-serve up`, or name another with --url",
            ) from error


def kind_of(body: Mapping[str, Any]) -> str | None:
    """Return the last word of a problem's type, or None for what is no problem of the service."""
    kind = str(body.get("type", ""))
    return kind.removeprefix(_KIND) if kind.startswith(_KIND) else None


def json_of(answer: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object of an answer, an empty one where there is none."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _closure(names: Sequence[str], needs: Mapping[str, Sequence[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(needs.get(name, ()))
    return frozenset(found)
