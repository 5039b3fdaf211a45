"""Measures one deployment: all ways to set it up, the best ones again, and then its batches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployments.runtime.errors import StackError
from serve_app.cli.tune.choice import Goal, choose, ranked
from serve_app.cli.tune.crew import Crew, Figures, Known
from serve_app.cli.tune.replica import Load
from serve_app.cli.tune.settings import Reasons, Setting

MIN_CLIENTS = 8
"""Of all replicas together; two for each core where that is more."""

FINALISTS = 3

BACKLOG_S = 1.0
"""Of work for one replica: so much waits when batch sizes are compared. Batches that take longer
than that hold up whoever comes after them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure.

    Attributes:
        warm_up_s: before each window.
        window_s: each window at least.
        requests: that each window has time for at least, by the CPU that one takes.
        rounds: of the finalists, after the one of all candidates; and of batch sizes.
        batch_sizes: to compare; the larger ones are for devices other than the CPU.

    """

    warm_up_s: float
    window_s: float
    requests: int
    rounds: int
    batch_sizes: tuple[int, ...]


NORMAL = Pace(0.4, 1.6, 16, 2, (1, 4, 16, 64))
QUICK = Pace(0.2, 0.8, 8, 1, (1, 4, 16))


class Steps(Protocol):
    """Is told how much there is to measure, and what is being measured."""

    def expect(self, count: int) -> None:
        """So many measurements more are to come."""
        ...

    def step(self, title: str) -> None:
        """The next measurement begins."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was tried; without figures where it was not measured, and why."""

    title: str
    figures: Figures | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What one deployment does for a request.

    Attributes:
        names: its nodes, in topological order.
        known: the results of all nodes.
        cost_ms: of CPU, by node.

    """

    names: tuple[str, ...]
    known: Known
    cost_ms: Mapping[str, float]

    def of(self, node: str) -> "Work":
        """Return the part of one node."""
        return Work((node,), self.known, self.cost_ms)

    @property
    def total_ms(self) -> float:
        """Milliseconds of CPU for one request."""
        return sum(self.cost_ms[name] for name in self.names)


@dataclass(slots=True)
class Bench:
    """One deployment while it is measured; ``trials`` and ``reasons`` tell what was found."""

    title: str
    crew: Crew
    work: Work
    goal: Goal
    pace: Pace
    cores: int
    steps: Steps
    trials: list[Trial] = field(default_factory=list)
    reasons: Reasons = field(default_factory=Reasons)

    def choose_setting(
        self,
        options: Sequence[Setting],
        each_mb: float,
        memory_mb: float,
    ) -> tuple[Setting, list[Setting]]:
        """Measure settings, the best ones again, and choose.

        Args:
            options: the present one first.
            each_mb: memory of a replica, an estimate; what is measured counts where it is more.
            memory_mb: that all of its replicas may take.

        Returns:
            The choice, and the others that came near, best first.

        Raises:
            StackError: none of them fits into the memory, or a process died.

        """
        measured: dict[int, Figures] = {}
        self.steps.expect(len(options))
        for i, option in enumerate(options):
            if option.replicas * each_mb > memory_mb:
                self.steps.step(self.title)
                needed_mb, free_mb = option.replicas * each_mb, max(memory_mb, 0)
                note = f"needs {needed_mb:,.0f} MB and may have {free_mb:,.0f}"
                self.trials.append(Trial(str(option), None, note))
                continue
            measured[i] = self._measure(option)
            each_mb = max(each_mb, measured[i].memory_mb / option.replicas)
        if not measured:
            raise StackError(
                f"{self.title}: {self.trials[0].title} {self.trials[0].note} beside Ray and the "
                "other deployments, and nothing smaller fits either. End other programs, or take "
                "nodes out of the graph",
            )
        finalists = dict.fromkeys(ranked(measured, self.goal)[:FINALISTS])
        if 0 in measured:
            finalists[0] = None
        rounds = self.pace.rounds if len(finalists) > 1 else 0
        self.steps.expect(rounds * len(finalists))
        for i in [*finalists] * rounds:
            measured[i] = self._better(measured[i], self._measure(options[i]))
        self.trials += [Trial(str(options[i]), figures) for i, figures in measured.items()]
        best = choose(
            {i: measured[i] for i in finalists},
            0 if 0 in measured else None,
            self.goal,
            lambda i: measured[i].memory_mb,
        )
        was = self.goal.say(measured[0]) if 0 in measured else "too much memory"
        if best != 0:
            self.reasons.setting = (
                f"{self.goal.say(measured[best])} with {options[best]}, {was} with {options[0]}"
            )
        return options[best], [options[i] for i in ranked(measured, self.goal) if i != best]

    def choose_batches(self, setting: Setting) -> Setting:
        """Choose the batch size of each node, alone and with more waiting than fits into one.

        Raises:
            StackError: a process died.

        """
        self.crew.load(self.work.names, setting)
        for node in setting.nodes:
            current = setting.nodes[node].max_batch_size
            work = self.work.of(node)
            waiting = math.ceil(BACKLOG_S * 1000 / max(work.total_ms, 1))
            waiting = min(max(waiting, 2), max(self.pace.batch_sizes))
            sizes = sorted({size for size in self.pace.batch_sizes if size <= waiting} | {current})
            measured: dict[int, Figures] = {}
            self.steps.expect(len(sizes) * self.pace.rounds)
            for size in sizes * self.pace.rounds:
                self.steps.step(f"{self.title}: {node}, batches of {size}")
                self.crew.tune(setting.with_batch(node, size))
                again = self._run(setting, work, waiting * setting.replicas)
                measured[size] = self._better(measured.get(size), again)
            best = choose(measured, current, self.goal, float)
            self.trials += [
                Trial(f"{node}, batches of {size}", figures) for size, figures in measured.items()
            ]
            if best != current:
                setting = setting.with_batch(node, best)
                self.reasons.batches[node] = (
                    f"{node} alone: {self.goal.say(measured[best])} in batches of {best}, "
                    f"{self.goal.say(measured[current])} of {current}"
                )
            self.crew.tune(setting)
        return setting

    def _better(self, before: Figures | None, again: Figures) -> Figures:
        """What else runs here can only make it slower, so the better figures are right."""
        return again if before is None else max(before, again, key=self.goal.score)

    def _measure(self, setting: Setting) -> Figures:
        self.steps.step(f"{self.title}: {setting}")
        self.crew.load(self.work.names, setting)
        alone = self.goal is Goal.LATENCY
        clients = 1 if alone else max(MIN_CLIENTS, 2 * self.cores)
        return self._run(setting, self.work, clients)

    def _run(self, setting: Setting, work: Work, clients: int) -> Figures:
        needed_s = self.pace.requests * work.total_ms / 1000 / min(clients, self.cores)
        load = Load(clients, self.pace.warm_up_s, max(self.pace.window_s, needed_s))
        return self.crew.run(setting.replicas, work.names, work.known, load)
