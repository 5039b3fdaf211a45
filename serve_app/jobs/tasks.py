"""From the form fields of a submission to what the graph needs.

Everything is checked here with the capabilities' own ``Params``, so that a wrong value is refused
at once and does not become a job that fails. The nine tasks of the original job protocol have
names and defaults of their own, which are translated, so that its clients work unchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from deployments.runtime.errors import InvalidParameterError, UnknownOutputError
from serve_app.graph import Graph
from serve_app.http.routes import dotted_parameters, plain_parameters
from serve_app.jobs.job import ANALYZE, DEFAULT_PRIORITY, MAX_PRIORITY
from serve_app.validation import describe_validation_error, wrong_value

COMMON_FIELDS = ("priority", "webhook", "path", "text")
"""What every job takes beside its file and its parameters."""

OUTPUTS = "outputs"
"""Which nodes ``analyze`` is to compute, separated by commas."""

_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "clip_embedding": {"normalize": "true"},
    "dino_embedding": {"normalize": "true"},
    "face_embedding": {"normalize": "true", "cropped": "true"},
    "face_detection": {"confidence_threshold": "0.7", "nms_threshold": "0.4"},
    "hash": {"algorithm": "sha512"},
    "image_conversion": {"quality": "85"},
    "hls_streaming": {"variants": "720:3500,480:1500,240:800", "include_original": "false"},
}
"""What the protocol's table states, by capability: a job asks for these explicitly, so that what
it shows is what it does. Those of face detection differ from ``/v1``'s. The file of a
``face_embedding`` job is the crop of one face."""

_KEEP_SHAPE = "maintain_aspect_ratio"
_INPUT_PATH = "input_absolute_path"
_OUTPUT_PATH = "output_absolute_path"

_FLAG = TypeAdapter(bool)
_PRIORITY = TypeAdapter[int](Annotated[int, Field(ge=0, le=MAX_PRIORITY)])

_T = TypeVar("_T")
_Given = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class ParsedTask:
    """What a job is to compute.

    Attributes:
        outputs: the nodes to compute.
        node_params: request parameters by node, as ``Pipeline.analyze`` takes them; JSON.
        params: the parameters as the client named them, of their own types, with the defaults
            that the protocol states; JSON.

    """

    outputs: tuple[str, ...]
    node_params: dict[str, dict[str, Any]]
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Submission:
    """A whole submission but for its file.

    Attributes:
        task: what to compute.
        priority: 0 to 10.
        webhook: where to tell that the job has ended, not yet checked; or None.
        path: a file on the machine's own disk in place of one that is sent, not yet checked; or
            None.
        texts: in the order in which they came.

    """

    task: ParsedTask
    priority: int
    webhook: str | None
    path: str | None
    texts: tuple[str, ...]


def parse_submission(graph: Graph, task: str, fields: Sequence[tuple[str, str]]) -> Submission:
    """Parse all form fields of a submission; an empty one counts as not given.

    Args:
        graph: what there is to compute.
        task: a node, or ``analyze``.
        fields: name and value, in the order in which they came; a name may come again.

    Raises:
        UnknownOutputError: the task, or one of the outputs, is not a node of the graph.
        InvalidParameterError: a field is unknown, wrong or missing; names all of them.

    """
    common: _Given = {name: [] for name in COMMON_FIELDS}
    others: list[tuple[str, str]] = []
    legacy: dict[str, str] = {}
    is_stream = task in graph and graph[task].capability.name == "hls_streaming"
    for name, value in fields:
        if name in common:
            common[name] += [value] if value else []
        elif is_stream and name == _INPUT_PATH and value:
            common["path"].append(value)
            legacy[name] = value
        elif value:
            others.append((name, value))
    parsed = parse_task(graph, task, others)
    parsed.params.update(legacy)
    priority = _only("priority", common["priority"])
    return Submission(
        task=parsed,
        priority=_checked(_PRIORITY, "priority", priority) if priority else DEFAULT_PRIORITY,
        webhook=_only("webhook", common["webhook"]),
        path=_only("path", common["path"]),
        texts=tuple(common["text"]),
    )


def parse_task(graph: Graph, task: str, fields: Sequence[tuple[str, str]]) -> ParsedTask:
    """Parse what a job is to compute; see ``parse_submission``, which takes the rest out first.

    Parameters of a node, and of the nodes that it needs, go by their plain names; those of
    ``analyze`` by ``node.parameter``, beside ``outputs``.
    """
    given: _Given = {}
    for name, value in fields:
        if value:
            given.setdefault(name, []).append(value)
    hidden: set[str] = set()
    params: dict[str, Any] = {}
    if task == ANALYZE:
        outputs = _outputs(graph, given.pop(OUTPUTS, []))
        owners = {
            dotted: (node.name, name) for dotted, (node, name) in dotted_parameters(graph).items()
        }
    elif task in graph:
        outputs = (task,)
        owners = {
            name: (node.name, name) for name, node in plain_parameters(graph, graph[task]).items()
        }
        capability = graph[task].capability.name
        params, hidden = _translated(capability, given)
        for name, value in _DEFAULTS.get(capability, {}).items():
            if name in owners:
                given.setdefault(name, [value])
    else:
        raise UnknownOutputError(
            f"unknown task {task!r}; expected {ANALYZE}, or one of {', '.join(sorted(graph))}",
        )
    needed = graph.subgraph(outputs)
    _refuse_unknown(task, given, [name for name, (node, _) in owners.items() if node in needed])
    by_owner = {owners[name]: value for name, value in given.items()}
    node_params = _validated(graph, needed, by_owner, dotted=task == ANALYZE)
    for name in given:
        if name not in hidden:
            node, own_name = owners[name]
            params[name] = node_params[node][own_name]
    return ParsedTask(outputs, node_params, params)


def _outputs(graph: Graph, given: list[str]) -> tuple[str, ...]:
    names = [name.strip() for part in given for name in part.split(",")]
    outputs = tuple(dict.fromkeys(filter(None, names)))
    if not outputs:
        raise InvalidParameterError(
            f"{OUTPUTS}: missing; expected some of {', '.join(graph)}, separated by commas",
        )
    return outputs


def _translated(capability: str, given: _Given) -> tuple[dict[str, Any], set[str]]:
    """Replace the original's own names in ``given`` by ours.

    Returns:
        What the client is to see of them, and the names of ours that it did not use.

    """
    if capability == "media_thumbnail":
        if "fit" not in given:
            given.setdefault(_KEEP_SHAPE, ["true"])
        if value := _only(_KEEP_SHAPE, given.pop(_KEEP_SHAPE, [])):
            _refuse_both("fit", _KEEP_SHAPE, given)
            keep_shape = _checked(_FLAG, _KEEP_SHAPE, value)
            given["fit"] = ["contain" if keep_shape else "fill"]
            return {_KEEP_SHAPE: keep_shape}, {"fit"}
    elif capability == "hls_streaming" and (
        value := _only(_OUTPUT_PATH, given.pop(_OUTPUT_PATH, []))
    ):
        _refuse_both("output_folder", _OUTPUT_PATH, given)
        given["output_folder"] = [value]
        return {_OUTPUT_PATH: value}, {"output_folder"}
    return {}, set()


def _refuse_both(name: str, legacy_name: str, given: _Given) -> None:
    if name in given:
        raise InvalidParameterError(f"{name}: expected this or {legacy_name}, got both")


def _refuse_unknown(task: str, given: _Given, known: Sequence[str]) -> None:
    choice = f"{task} takes {', '.join(known) or 'no parameters'}"
    every = f"every job {', '.join(COMMON_FIELDS)}"
    unknown = [f"{name}: unknown parameter" for name in given if name not in known]
    if unknown:
        raise InvalidParameterError(f"{'; '.join(unknown)}; {choice}, and {every}")


def _validated(
    graph: Graph,
    needed: Sequence[str],
    given: Mapping[tuple[str, str], list[str]],
    *,
    dotted: bool,
) -> dict[str, dict[str, Any]]:
    """Check the parameters of all needed nodes; ``given`` is by node and parameter."""
    checked: dict[str, dict[str, Any]] = {}
    mistakes: list[str] = []
    for node in needed:
        kind = graph[node].capability.params
        raw = {
            name: _from_form(kind, name, values)
            for (owner, name), values in given.items()
            if owner == node
        }
        try:
            params = kind.model_validate(raw)
        except ValidationError as error:
            mistakes += describe_validation_error(error, prefix=node if dotted else "")
            continue
        if raw:
            checked[node] = params.model_dump(mode="json", exclude_unset=True)
    if mistakes:
        raise InvalidParameterError("; ".join(mistakes))
    return checked


def _from_form(kind: type[BaseModel], name: str, values: list[str]) -> str | list[str]:
    """One text, or a list where it came again or the parameter is a list of plain values."""
    is_list = _is_list(kind.model_fields[name].annotation)
    return values if is_list or len(values) > 1 else values[0]


def _is_list(annotation: Any) -> bool:  # noqa: ANN401 - a type annotation
    """Whether a parameter takes a list of plain values; those of models come as one JSON text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(map(_is_list, arguments))
    of_models = any(isinstance(item, type) and issubclass(item, BaseModel) for item in arguments)
    return origin in (list, tuple) and not of_models


def _only(name: str, values: Sequence[str]) -> str | None:
    if len(values) > 1:
        raise InvalidParameterError(f"{name}: expected it once, got it {len(values)} times")
    return values[0] if values else None


def _checked(kind: TypeAdapter[_T], name: str, value: str) -> _T:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        mistake = wrong_value(error.errors()[0])
        raise InvalidParameterError(f"{name}: {mistake}") from error
