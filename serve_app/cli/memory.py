"""How much memory a graph will take: an estimate from figures that were measured.

Measured as PSS, which counts a page that n processes share as 1/n in each, on two x86-64 cores
with Ray 2.60, idle after the self-tests, with every model, DINOv2 and MobileCLIP as stand-ins of
full size. ``config/serve.yaml`` took 2,227 MB, and 2,435 MB after load; the formula gives 2,385.
With each of its nodes in a replica of its own it took 3,029 MB; the formula gives 2,961.

In that stack a replica without a model took 99 to 113 MB, and the ingress without nodes 127. With
a model, and the size of its file, in MB: BlazeFace 129 (2), MobileFaceNet 134 (5), MobileCLIP's
image model 245 (45), DINOv2 276 (87), MobileCLIP's text model 355 (170). The formula gives 133,
138, 198, 260 and 385: within a fifth.
"""

from collections.abc import Iterable

STACK_MB = 1000
"""Ray and Serve without replicas: the cluster's own processes, the dashboard, the controller and
the proxy. 997 and 1,014 in those two stacks."""

REPLICA_MB = 98
"""A Serve replica with everything imported and no node."""

HTTP_SERVER_MB = 29
"""What the ingress has besides."""

NODE_MB = 5
"""A node, and the programs that it keeps running: from 1 for thumbnails to 20 for ExifTool."""

ONNX_RUNTIME_MB = 15
"""Once in each replica that runs a model."""

MODEL_MB = 12
"""A session, whatever the size of its model."""

MODEL_FACTOR = 1.5
"""Weights as ONNX Runtime holds them and what a batch of one takes, over the size of the file."""


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
        total += ONNX_RUNTIME_MB + MODEL_MB * len(sizes) + MODEL_FACTOR * sum(sizes) / 1e6
    return total
