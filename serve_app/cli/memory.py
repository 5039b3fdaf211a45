"""How much memory a graph will take: an estimate from figures that were measured.

Measured as PSS, which counts a page that n processes share as 1/n in each, on two x86-64 cores
with Ray 2.60, idle after the self-tests. ``config/serve.yaml`` with every model, DINOv2 and
MobileCLIP as stand-ins of full size, took 1,693 MB, and 1,722 MB when every node had been asked;
the formula gives 1,724. Its ingress replicas took 313 each, ExifTool included, the deployment of
MobileCLIP's text model (170 MB) 201, and that of HLS 65; with the face models alone an ingress
replica took 158. The formula gives 314, 228, 65 and 185: within a fifth.
"""

from collections.abc import Iterable

from deployments.runtime.mapped_weights import MIN_BYTES

STACK_MB = 702
"""Ray and Serve without replicas: the cluster's own processes, the dashboard, the controller, the
proxy, and what workers are forked from."""

JOBS_MB = 100
"""The deployment that keeps jobs, where the file has them."""

REPLICA_MB = 60
"""A Serve replica with everything imported and no node."""

HTTP_SERVER_MB = 25
"""What the ingress has besides."""

NODE_MB = 5
"""A node, and the programs that it keeps running: from 1 for thumbnails to 20 for ExifTool."""

ONNX_RUNTIME_MB = 15
"""Once in each replica that runs a model."""

MODEL_MB = 12
"""A session, whatever the size of its model."""

MODEL_FACTOR = 1.5
"""Weights as ONNX Runtime holds them and what a batch of one takes, over the size of the file."""

MAPPED_FACTOR = 0.8
"""The same of a large model, whose weights are mapped: 0.6 where replicas share them or much of it
is a table of words, 1.1 for one replica alone."""


def replica_mb(model_bytes: Iterable[int | None], nodes: int, *, serves_http: bool) -> float:
    """Estimate the memory of one replica, in MB.

    Args:
        model_bytes: the size of each model's file; None where it is not known, which counts
            nothing.
        nodes: how many nodes it hosts.
        serves_http: whether it is the ingress.

    """
    sizes = [size or 0 for size in model_bytes]
    total = REPLICA_MB + NODE_MB * nodes + (HTTP_SERVER_MB if serves_http else 0)
    if sizes:
        total += ONNX_RUNTIME_MB + MODEL_MB * len(sizes)
    for size in sizes:
        total += size / 1e6 * (MAPPED_FACTOR if size >= MIN_BYTES else MODEL_FACTOR)
    return total
