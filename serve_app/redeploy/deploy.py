"""Making a changed file true while requests come in, and going back where that fails.

The order is: compare, try out, roll out, and only then remember. Whatever fails before the
roll-out has changed nothing; what fails in it puts the previous configuration back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import StackError
from serve_app.app import check_graph, node_settings
from serve_app.config import ServeFile
from serve_app.graph import Graph
from serve_app.handles import join_cluster
from serve_app.redeploy.changes import Change, Effect, compare
from serve_app.redeploy.rollout import HEALTHY, node_health, roll_out
from serve_app.redeploy.trial import Candidate, Verdict, try_out
from serve_app.stack import Progress, RunningStack, Stack
from serve_app.stack.history import Revision
from serve_app.stores import open_models, open_stores


@dataclass(frozen=True, slots=True)
class Redeployment:
    """What a redeploy changed, and what its user should know."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = ()


def running_file(stack: Stack) -> ServeFile:
    """Return the configuration that a stack runs. Raises ``StackError``."""
    revision = stack.history.latest()
    if revision is None:
        raise StackError(f"{stack.folder} holds no configuration; start with `cl-serve up`")
    return _file(revision)


def deploy(
    stack: Stack, file: ServeFile, progress: Progress, *, trial: bool = True
) -> Redeployment:
    """Make ``file`` what a running stack serves; returns when every node of it is ready.

    Args:
        stack: must run.
        file: the new configuration.
        progress: is told each step.
        trial: whether to try out what changed before anything is touched.

    Raises:
        ConfigError: the file is wrong.
        StackError: nothing runs; the change takes a restart; the new version does not start, and
            the one before serves on.

    """
    state = stack.require_running()
    old = running_file(stack)
    changes = compare(old, file)
    if not changes:
        return Redeployment(())
    graph = check_graph(file, open_models(file.args.models))
    warnings: tuple[str, ...] = ()
    if trial and any(change.effect in (Effect.NEW, Effect.ROLLING) for change in changes):
        progress("Trying the new version out")
        join_cluster(stack)
        warnings = tuple(_try_changed(state, old, file, graph, progress))
    roll_out(stack, old, file, changes, progress)
    stack.history.add(str(file.path.resolve()), file.document)
    return Redeployment(changes, warnings)


def rollback(stack: Stack, progress: Progress) -> Revision:
    """Go back to the configuration before the present one; where a deploy broke off, to that.

    Raises:
        StackError: nothing runs, there is nothing to go back to, or it does not start.

    """
    stack.require_running()
    revisions = stack.history.revisions()
    if stack.deploying.exists() and revisions:
        roll_out(stack, _file(revisions[-1]), _file(revisions[-1]), (), progress)
        return revisions[-1]
    if len(revisions) < 2:  # noqa: PLR2004 - the present one, and one before
        raise StackError("there is no earlier configuration to go back to")
    previous, present = (_file(revision) for revision in revisions[-2:])
    roll_out(stack, present, previous, compare(present, previous), progress)
    stack.history.drop(revisions[-1])
    return revisions[-2]


def _file(revision: Revision) -> ServeFile:
    return ServeFile(revision.document, Path(revision.path))


def _try_changed(
    state: RunningStack,
    old: ServeFile,
    new: ServeFile,
    graph: Graph,
    progress: Progress,
) -> Iterator[str]:
    """Try out the hosts whose nodes or places change; yield warnings.

    Raises:
        StackError: a host does not start, or a node that serves now would not.

    """
    before = _candidates(old, check_graph(old, open_models(old.args.models)))
    after = _candidates(new, graph)
    health = node_health(state)
    for name, candidate in after.items():
        if _same(before.get(name), candidate):
            continue
        progress(f"Trying {name} out")
        verdict = try_out(candidate)
        yield from _judge(name, verdict, health)


def _judge(host: str, verdict: Verdict, health: dict[str, dict[str, Any]]) -> Iterator[str]:
    if not verdict.placed:
        yield f"{host} was not tried out first: no machine has room for one replica more"
    if verdict.traceback:
        raise StackError(
            f"the new version of {host} does not start, so nothing was changed:\n"
            f"{verdict.traceback}",
        )
    for node, found in verdict.health.items():
        if found.state == "ready":
            continue
        serves_now = health.get(node, {}).get("state") in HEALTHY
        if serves_now or found.state == "broken":
            raise StackError(
                f"the new version of {node} would not answer, so nothing was changed: "
                f"{found.detail}",
            )
        yield f"{node} can't answer yet: {found.detail}"


def _candidates(file: ServeFile, graph: Graph) -> dict[str, Candidate]:
    """Describe what each deployment of a file is to host, and where."""
    stores = open_stores(file.args)
    entries = {entry["name"]: entry for entry in file.raw["applications"][0].get("deployments", [])}
    return {
        host: Candidate(
            [(graph[name], node_settings(graph[name], file.args, stores)) for name in members],
            entries.get(host, {}).get("user_config") or {},
            entries.get(host, {}).get("ray_actor_options") or {},
        )
        for host, members in graph.hosts.items()
    }


def _same(old: Candidate | None, new: Candidate) -> bool:
    """Whether a replica of the new version would be one of the old version."""
    return old is not None and (
        [node for node, _ in old.nodes] == [node for node, _ in new.nodes]
        and [_identity(settings) for _, settings in old.nodes]
        == [_identity(settings) for _, settings in new.nodes]
        and old.ray_actor_options == new.ray_actor_options
    )


def _identity(settings: NodeSettings) -> tuple[object, ...]:
    """What of a node's settings makes it compute something else, or elsewhere."""
    folders = (settings.files.readable, settings.files.writable)
    return (
        settings.model,
        settings.allow_unvalidated,
        settings.provider,
        settings.num_threads,
        folders,
    )
