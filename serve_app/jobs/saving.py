"""Files that are there as a whole or not at all, whatever breaks off while they are fetched."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def appearing(destination: Path) -> Iterator[BinaryIO]:
    """Give a file that gets its name when the block ends, and vanishes when the block fails.

    Raises:
        OSError: it can't be written.

    """
    unfinished = destination.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(destination)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
