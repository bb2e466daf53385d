"""A file with an image of any size and mode, made a small square of bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["MODES", "VERSION", "of_eight_bits", "preparation", "prepare"]

VERSION = 1
"""Changes with any change of `prepare` that changes pixels."""

FORMATS = ("PNG", "JPEG", "WEBP")
MODES = {1: "L", 3: "RGB"}  # by the number of channels


def preparation(size: int, channels: int) -> str:
    """What `prepare` does, for protocols."""
    return f"{MODES[channels]}, centre square, bicubic to {size} × {size}, version {VERSION}"


def prepare(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """The image in a file as bytes [channels, size, size]: RGB, or grey (ITU-R 601-2 luma) for one channel.

    The image is turned as its EXIF orientation says and transparent parts are composited on white; the largest square
    in its middle is resized by a bicubic filter that is widened where it shrinks (antialiasing). An image of 16 bits
    keeps its highest eight, CMYK becomes RGB without a colour profile, and an animation is its first frame. Raises
    whatever Pillow does where a file is none of PNG, JPEG and WebP, damaged, or larger than Pillow thinks safe.
    """
    with Image.open(path, formats=FORMATS) as opened:
        image = _on_white(of_eight_bits(ImageOps.exif_transpose(opened))).convert(MODES[channels])
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)


def of_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow reads 16 bits of grey as they are, and would clip them at 255; those of colours it reduces itself."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if "transparency" not in image.info and image.mode not in ("LA", "La", "PA", "RGBA", "RGBa"):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
