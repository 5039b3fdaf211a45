"""Made-up video frames: shapes that move before a background, and scenes with cuts between."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from deployments.runtime.random_media.images import ImageGenerator

_MOVING_SHAPES = 6


@dataclass(frozen=True, slots=True)
class FrameGenerator:
    """Makes the frames of one scene; the same fields give the same frames.

    Attributes:
        size: (width, height) in pixels.
        fps: frames per second, which sets how far shapes move from one frame to the next.
        seed: anything from 0.

    """

    size: tuple[int, int] = (320, 240)
    fps: float = 25.0
    seed: int = 0

    def frames(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield ``count`` frames, each (height, width, 3), uint8 RGB, an array of its own."""
        random = np.random.default_rng(self.seed)
        background = ImageGenerator(size=self.size, seed=self.seed).image()
        starts = random.uniform(0.0, 1.0, (_MOVING_SHAPES, 2))
        speeds = random.uniform(-0.4, 0.4, (_MOVING_SHAPES, 2))  # pictures per second
        radii = random.uniform(0.04, 0.12, _MOVING_SHAPES) * min(self.size)
        colours = [
            (int(red), int(green), int(blue))
            for red, green, blue in random.integers(0, 256, (_MOVING_SHAPES, 3))
        ]
        for index in range(count):
            picture = background.copy()
            draw = ImageDraw.Draw(picture)
            # Modulo one, so that a shape that leaves on one side comes back on the other.
            centres = (starts + speeds * (index / self.fps)) % 1.0 * self.size
            for (x, y), radius, colour in zip(centres, radii, colours, strict=True):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
            yield np.array(picture)


@dataclass(frozen=True, slots=True)
class SceneGenerator:
    """Makes several scenes, one after another, with a hard cut between two of them.

    Attributes:
        scene_lengths: the number of frames of each scene.
        size: (width, height) in pixels.
        fps: frames per second.
        seed: anything from 0; each scene gets another background.

    """

    scene_lengths: tuple[int, ...] = (25, 25)
    size: tuple[int, int] = (320, 240)
    fps: float = 25.0
    seed: int = 0

    @property
    def cuts(self) -> tuple[int, ...]:
        """Index of the first frame of each scene but the first."""
        return tuple(int(end) for end in np.cumsum(self.scene_lengths)[:-1])

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Yield all frames, each (height, width, 3), uint8 RGB."""
        seeds = np.random.SeedSequence(self.seed).generate_state(len(self.scene_lengths))
        for seed, length in zip(seeds, self.scene_lengths, strict=True):
            yield from FrameGenerator(size=self.size, fps=self.fps, seed=int(seed)).frames(length)
