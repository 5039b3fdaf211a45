"""Made-up photos and videos for tests and benchmarks: the same seed gives the same pixels.

They look like photos to a codec, with soft areas, edges and sensor noise, so that file sizes and
decode times are realistic; they show nothing that a model would recognise.
"""

from deployments.runtime.random_media.exif import ExifFields
from deployments.runtime.random_media.frames import FrameGenerator, SceneGenerator
from deployments.runtime.random_media.images import ImageGenerator
from deployments.runtime.random_media.montage import Montage, Placement, montage
from deployments.runtime.random_media.videos import VideoGenerator

__all__ = [
    "ExifFields",
    "FrameGenerator",
    "ImageGenerator",
    "Montage",
    "Placement",
    "SceneGenerator",
    "VideoGenerator",
    "montage",
]
