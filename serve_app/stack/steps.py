"""How long each step of a start took: what is slow on a small machine is seen, not guessed."""

import time
from collections.abc import Callable
from itertools import pairwise


class Steps:
    """Is told each step as it begins, passes it on, and knows how long each one took."""

    def __init__(self, show: Callable[[str], None]) -> None:
        """Begin with no step; ``show`` is told each one, too."""
        self._show = show
        self._began_s: list[tuple[str, float]] = []

    def __call__(self, step: str) -> None:
        """Begin a step, which ends the one before."""
        self._began_s.append((step, time.monotonic()))
        self._show(step)

    def taken_s(self) -> dict[str, float]:
        """End the last step; return the steps in their order, with their seconds."""
        ends = [*self._began_s, ("", time.monotonic())]
        return {step: end_s - began_s for (step, began_s), (_, end_s) in pairwise(ends)}
