"""Image conversion: one picture or animation, written anew in another format."""

from deployments.image_conversion.capability import ImageConversion
from deployments.image_conversion.schema import ConvertedImage, ImageConversionParams

__all__ = ["ConvertedImage", "ImageConversion", "ImageConversionParams"]
