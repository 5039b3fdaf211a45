"""HLS streaming: one video in several qualities that players switch between."""

from deployments.hls_streaming.algo.validation import validate
from deployments.hls_streaming.capability import HlsStreaming
from deployments.hls_streaming.schema import (
    HlsStream,
    HlsStreamingParams,
    HlsVariant,
    Variant,
)

__all__ = [
    "HlsStream",
    "HlsStreaming",
    "HlsStreamingParams",
    "HlsVariant",
    "Variant",
    "validate",
]
