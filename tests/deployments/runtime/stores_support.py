"""An S3 to test against: moto's server, which speaks the real API over HTTP."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

import boto3
from moto.server import ThreadedMotoServer

from deployments.runtime.file_store import FileStore

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
REGION = "eu-central-1"


@contextmanager
def s3_endpoint() -> Iterator[str]:
    """Run a server, with credentials for it in the environment; give its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with mock.patch.dict(os.environ, _CREDENTIALS):
            yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_store(endpoint: str) -> FileStore:
    """Make a store below a prefix of a new bucket."""
    bucket = f"test-{uuid.uuid4().hex}"
    where = {"LocationConstraint": REGION}
    s3_client(endpoint).create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    return FileStore(f"s3://{bucket}/jobs", {"endpoint": endpoint, "region": REGION})


@cache
def s3_client(endpoint: str):  # noqa: ANN201 - boto3 has no types
    """Connect in another way than the store does."""
    return boto3.client("s3", endpoint_url=endpoint, region_name=REGION)
