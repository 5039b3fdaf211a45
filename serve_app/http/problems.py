"""One table from the error tree to HTTP, and the ``application/problem+json`` body (RFC 9457)."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from deployments.runtime import errors

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """How one error class looks over HTTP. ``kind`` is a stable word for programs to test."""

    status: int
    kind: str
    title: str


PROBLEMS: dict[type[errors.ClServeError], Problem] = {
    errors.ClServeError: Problem(500, "internal", "Something went wrong here"),
    errors.InputError: Problem(400, "input", "The input can't be used"),
    errors.EmptyInputError: Problem(400, "empty-input", "Nothing was sent"),
    errors.UnsupportedMediaError: Problem(415, "unsupported-media", "Not a supported format"),
    errors.CorruptMediaError: Problem(422, "corrupt-media", "The file is damaged"),
    errors.TooLargeError: Problem(413, "too-large", "Larger than the limit"),
    errors.StalledUploadError: Problem(408, "stalled-upload", "The upload stopped"),
    errors.InvalidParameterError: Problem(422, "invalid-parameter", "A parameter is wrong"),
    errors.UnknownOutputError: Problem(404, "unknown-output", "No such output"),
    errors.ForbiddenPathError: Problem(403, "forbidden-path", "The path is not allowed"),
    errors.PathNotFoundError: Problem(404, "path-not-found", "Nothing is there"),
    errors.UnknownJobError: Problem(404, "unknown-job", "No such job"),
    errors.JobStateError: Problem(409, "job-state", "The job is in another state"),
    errors.ConfigError: Problem(500, "config", "The configuration is wrong"),
    errors.ModelError: Problem(503, "model", "A model can't be used"),
    errors.UnknownModelError: Problem(404, "unknown-model", "No such model"),
    errors.ModelNotInstalledError: Problem(503, "model-not-installed", "Model not installed"),
    errors.ModelIntegrityError: Problem(503, "model-integrity", "A model file is damaged"),
    errors.ModelNotValidatedError: Problem(
        503, "model-not-validated", "A variant of a model failed its validation"
    ),
    errors.ModelLicenceError: Problem(503, "model-licence", "The model's licence needs consent"),
    errors.ModelDownloadError: Problem(503, "model-download", "The model could not be fetched"),
    errors.ModelConversionError: Problem(503, "model-conversion", "The model was not converted"),
    errors.OfflineError: Problem(503, "offline", "The network is switched off"),
    errors.ToolError: Problem(503, "tool", "A program can't be used"),
    errors.ToolNotInstalledError: Problem(503, "tool-not-installed", "A program is not installed"),
    errors.ToolFailedError: Problem(503, "tool-failed", "A program failed"),
    errors.NodeError: Problem(503, "node", "The graph can't answer just now"),
    errors.OverloadedError: Problem(503, "overloaded", "Too many requests at once"),
    errors.DeadlineExceededError: Problem(504, "deadline-exceeded", "Took too long"),
    errors.CancelledRequestError: Problem(499, "cancelled", "The request was cancelled"),
    errors.NodeUnavailableError: Problem(503, "node-unavailable", "A node can't answer just now"),
    errors.StorageFullError: Problem(507, "storage-full", "There is no room"),
    errors.DependencyFailedError: Problem(503, "dependency-failed", "A needed node has failed"),
    errors.StackError: Problem(500, "stack", "The Ray stack has a problem"),
}
"""Every class of the tree, exactly; a test fails on one that is missing."""


def problem_for(error: errors.ClServeError) -> Problem:
    """Look an error up, by its nearest class in the table."""
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)


def problem_body(error: errors.ClServeError, request_id: str) -> dict[str, Any]:
    """Make the body of a problem: type, title, status, detail and the request's id."""
    problem = problem_for(error)
    return _body(problem.kind, problem.title, problem.status, str(error), request_id)


def http_problem_body(status: int, detail: str, request_id: str) -> dict[str, Any]:
    """Make the body of a problem that HTTP itself raised, such as 404 or 405."""
    title = HTTPStatus(status).phrase
    return _body(title.lower().replace(" ", "-"), title, status, detail, request_id)


def _body(kind: str, title: str, status: int, detail: str, request_id: str) -> dict[str, Any]:
    return {
        "type": f"urn:cl-ml-serve:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
