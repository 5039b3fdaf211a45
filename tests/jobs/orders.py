"""What clients order in the reliability test: all kinds of jobs, drawn by a seeded dice."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Form = dict[str, str | list[str]]

BATCH = "batch"
_BATCH_FILES = 3

_CANCELLED = 0.08
_TWICE = 0.1
_TOLD = 0.25
"""Shares of the orders that are cancelled, sent twice, and told of by a webhook."""


@dataclass(frozen=True)
class Samples:
    """Files to send: a photograph with a face, a small picture, and a video of two seconds."""

    face: bytes
    picture: bytes
    video: Path

    @property
    def damaged(self) -> bytes:
        """The small picture, cut off."""
        return self.picture[: len(self.picture) // 3]


@dataclass(frozen=True, eq=False)
class Order:
    """One submission, which makes one job, or a batch of them.

    Attributes:
        key: of idempotency.
        path: of the route.
        task: of the jobs.
        form: the fields beside the files.
        files: name and content of each.
        fails: whether the file is damaged.
        cancelled: whether the client cancels it at once.
        twice: whether the client sends it twice.
        told: whether it has a webhook.

    """

    key: str
    path: str
    task: str
    form: Form
    files: tuple[tuple[str, bytes], ...]
    fails: bool = False
    cancelled: bool = False
    twice: bool = False
    told: bool = False


@dataclass
class Mix:
    """Draws orders; the same seed gives the same ones."""

    samples: Samples
    dice: random.Random
    webhook: str
    _count: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Order]:
        """Draw orders for ever."""
        kinds: dict[Callable[[str], Order], int] = {
            self._hash: 6,
            self._exif: 3,
            self._thumbnail: 3,
            self._faces: 4,
            self._embedding: 3,
            self._analyze: 3,
            self._stream: 1,
            self._damaged: 2,
            self._batch: 2,
        }
        while True:
            (kind,) = self.dice.choices(list(kinds), list(kinds.values()))
            self._count += 1
            yield kind(f"order-{self._count}")

    def _hash(self, key: str) -> Order:
        return self._order(key, "hash", {}, self._own(self.samples.picture))

    def _exif(self, key: str) -> Order:
        return self._order(key, "exif", {}, self._own(self.samples.picture))

    def _thumbnail(self, key: str) -> Order:
        form: Form = {"width": "64", "height": "64"}
        return self._order(key, "media_thumbnail", form, self._own(self.samples.picture))

    def _faces(self, key: str) -> Order:
        return self._order(key, "face_detection", {}, self._own(self.samples.face))

    def _embedding(self, key: str) -> Order:
        return self._order(key, "face_embedding", {"cropped": "false"}, self.samples.face)

    def _analyze(self, key: str) -> Order:
        form: Form = {"outputs": "exif,hash,face_detection"}
        return self._order(key, "analyze", form, self._own(self.samples.face))

    def _stream(self, key: str) -> Order:
        video = self.samples.video.read_bytes()
        return self._order(key, "hls_streaming", {"variants": "120:200"}, video, "video.mp4")

    def _damaged(self, key: str) -> Order:
        form: Form = {"width": "64"}
        return self._order(key, "media_thumbnail", form, self.samples.damaged, fails=True)

    def _batch(self, key: str) -> Order:
        files = tuple(
            (f"{number}.jpg", self._own(self.samples.picture)) for number in range(_BATCH_FILES)
        )
        form: Form = {"task": "hash", **self._common()}
        return Order(key, BATCH, "hash", form, files, told="webhook" in form)

    def _order(  # noqa: PLR0913 - one for each of what differs
        self,
        key: str,
        task: str,
        form: Form,
        data: bytes,
        name: str = "photo.jpg",
        *,
        fails: bool = False,
    ) -> Order:
        common = self._common()
        return Order(
            key,
            task,
            task,
            form | common,
            ((name, data),),
            fails=fails,
            cancelled=not fails and self.dice.random() < _CANCELLED,
            twice=self.dice.random() < _TWICE,
            told="webhook" in common,
        )

    def _common(self) -> Form:
        form: Form = {"priority": str(self.dice.randint(0, 10))}
        return form | {"webhook": self.webhook} if self.dice.random() < _TOLD else form

    def _own(self, picture: bytes) -> bytes:
        """Make a picture a file that there is only once: what is behind its end is not shown."""
        return picture + self.dice.randbytes(8)
