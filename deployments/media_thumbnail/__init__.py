"""Thumbnails: a small picture of a photo or a video."""

from deployments.media_thumbnail.capability import MediaThumbnail
from deployments.media_thumbnail.schema import MediaThumbnailParams, Thumbnail

__all__ = ["MediaThumbnail", "MediaThumbnailParams", "Thumbnail"]
