"""Files in S3 or something that speaks like it, through s3fs.

An object appears when its upload is complete, so nothing needs a second name. Memory is bounded
by the size of a part. Of an upload that was cut off only its parts remain, which no listing shows
and ``sweep`` ends.
"""

import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Any, BinaryIO

import s3fs
import s3fs.core
from botocore.exceptions import BotoCoreError, ClientError

from deployments.runtime.file_places.facts import StoredFile

PART_BYTES = 8 * 2**20
"""Sent or fetched at once; S3 takes no parts below 5 MiB but the last."""

PARTS_AT_ONCE = 2
"""Of one upload: the next one is on its way while the answer to one comes back."""

MAX_PARTS = 10_000
"""Of an upload, as S3 has it."""

CONNECT_TIMEOUT_S = 5
"""A store in the same network answers in milliseconds, one far away in less than a second."""

MAX_REMOVED = 1000
"""Objects in one request to remove them, as S3 has it."""

ATTEMPTS = 2
"""Of botocore, for errors of the server; s3fs tries five times more where the network fails."""

_FULL_STATUS = 507  # Insufficient Storage, of MinIO and others with a disk of their own


class S3Place:
    """Objects below a bucket's prefix. Safe to use from many threads."""

    def __init__(self, path: str, options: Mapping[str, str]) -> None:
        """Connect; nothing is sent yet. ``path`` is ``bucket/prefix`` or a bucket."""
        self._top = path
        self._bucket, _, self._prefix = path.partition("/")
        region = options.get("region")
        # Any: its methods are made at run time, over asynchronous ones.
        self._s3: Any = s3fs.S3FileSystem(
            endpoint_url=options.get("endpoint"),
            client_kwargs={"region_name": region} if region else {},
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "retries": {"total_max_attempts": ATTEMPTS},
            },
            use_listings_cache=False,  # others write too
        )

    def adopt(self, path: Path, key: str) -> None:
        """Upload a file, then remove it here."""
        self._upload(path, key)
        path.unlink()

    def adopt_folder(self, path: Path, key: str) -> None:
        """Upload each file, then remove the folder here."""
        self.remove(key)
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.is_symlink():
                self._upload(file, f"{key}/{file.relative_to(path).as_posix()}")
        shutil.rmtree(path)

    def write(self, key: str, data: bytes) -> None:
        """Upload the bytes."""
        with _failures():
            self._s3.pipe_file(self._path(key), data)

    def open(self, key: str) -> BinaryIO:
        """Fetch the object into a file without a name."""
        self.info(key)
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller's to close
        try:
            with _failures():
                # One after the other: s3fs would hold all parts that it fetches at once.
                into = f"/proc/self/fd/{file.fileno()}"
                self._s3.get_file(self._path(key), into, max_concurrency=1)
        except BaseException:
            file.close()
            raise
        return file  # pyright: ignore[reportReturnType] - without a buffer it is a FileIO

    def info(self, key: str) -> StoredFile:
        """Ask for the object's head."""
        with _failures():
            found = self._s3.info(self._path(key))
        if found["type"] != "file":
            raise IsADirectoryError(key)
        return StoredFile(
            found["size"], found["LastModified"].timestamp(), found["ETag"].strip('"')
        )

    def local_path(self, key: str) -> None:
        """Return None: it is nowhere here."""

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Fetch part by part."""
        stop = min(stop, self.info(key).size_bytes)
        while start < stop:
            with _failures():
                end = min(start + PART_BYTES, stop)
                data = self._s3.cat_file(self._path(key), start=start, end=end)
            yield data
            start = end

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield objects, page by page."""
        for key, found in self._objects(prefix):
            yield key, found["Size"]

    def remove(self, prefix: str) -> None:
        """Remove an object, and all below it."""
        below = self._below(prefix)
        keys = itertools.chain([below[:-1]], (below + key for key, _ in self._objects(prefix)))
        while some := list(itertools.islice(keys, MAX_REMOVED)):
            wanted = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            with _failures():
                answer = self._s3.call_s3("delete_objects", Bucket=self._bucket, Delete=wanted)
            for problem in answer.get("Errors", ()):
                raise PermissionError(f"{problem['Key']} is not removed: {problem['Message']}")

    def top_folders(self) -> Iterator[tuple[str, float]]:
        """Group all objects, which come sorted, by the first part of their keys."""
        name, changed_s = "", 0.0
        for key, found in self._objects(""):
            first, slash, _ = key.partition("/")
            if not slash:
                continue
            if first != name:
                if name:
                    yield name, changed_s
                name, changed_s = first, 0.0
            changed_s = max(changed_s, found["LastModified"].timestamp())
        if name:
            yield name, changed_s

    def sweep(self, older_than_s: float) -> None:
        """End uploads that were begun so long ago."""
        before_s = time.time() - older_than_s
        with _failures():
            for upload in self._s3.list_multipart_uploads(self._bucket):
                old = upload["Initiated"].timestamp() < before_s
                if old and upload["Key"].startswith(self._below("")):
                    self._s3.abort_mpu(self._bucket, upload["Key"], upload["UploadId"])

    def _upload(self, path: Path, key: str) -> None:
        part_bytes = max(PART_BYTES, math.ceil(path.stat().st_size / MAX_PARTS))
        with _failures():
            self._s3.put_file(
                str(path),
                self._path(key),
                chunksize=part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )

    def _objects(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the key of each object, relative to the prefix, and what S3 says of it."""
        below = self._below(prefix)
        more: dict[str, str] = {}
        while True:
            with _failures():
                page = self._s3.call_s3(
                    "list_objects_v2",
                    Bucket=self._bucket,
                    Prefix=below,
                    **more,
                )
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # what some programs put for a folder
                    yield found["Key"].removeprefix(below), found
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _path(self, key: str) -> str:
        return f"{self._top}/{key}"

    def _below(self, prefix: str) -> str:
        return "".join(f"{part}/" for part in (self._prefix, prefix) if part)


@contextmanager
def _failures() -> Iterator[None]:
    """Make all errors those of the operating system, as s3fs does with most."""
    try:
        yield
    except (OSError, BotoCoreError, *s3fs.core.S3_RETRYABLE_ERRORS) as error:
        cause = error.__cause__
        answer = cause.response if isinstance(cause, ClientError) else {}
        code = answer.get("Error", {}).get("Code")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == _FULL_STATUS or code == "QuotaExceeded":
            raise OSError(ENOSPC, "the store is full") from error
        if code == "NoSuchBucket":
            raise ConnectionError("there is no such bucket") from error
        if isinstance(error, OSError):
            raise
        raise ConnectionError(str(error)) from error
