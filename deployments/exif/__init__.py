"""Metadata of photos and videos: camera, time, place and everything else that ExifTool reads."""

from deployments.exif.capability import Exif
from deployments.exif.schema import ExifMetadata, ExifParams

__all__ = ["Exif", "ExifMetadata", "ExifParams"]
