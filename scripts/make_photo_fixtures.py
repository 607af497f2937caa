#!/usr/bin/env python3
"""Writes the files of editmgt/testdata/ that Rust's encoders can't make: animations, and JPEGs of ink.

    python3 scripts/make_photo_fixtures.py editmgt/testdata

Drawn by this script. Needs Pillow; the committed files were made with 13.0.0.
"""

import sys
from pathlib import Path

from PIL import Image

CORNERS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 20)]


def corners(colours, mode, size=(32, 16)):
    image = Image.new(mode, size)
    width, height = size[0] // 2, size[1] // 2
    for i, colour in enumerate(colours):
        image.paste(colour, (i % 2 * width, i // 2 * height, (i % 2 + 1) * width, (i // 2 + 1) * height))
    return image


def ink(colour):
    """The same colour in inks, as much of it as can be in black."""
    key = max(colour)
    return tuple(255 - 255 * part // key for part in colour) + (255 - key,)


def main():
    out = Path(sys.argv[1])
    first, second = corners(CORNERS, "RGB"), corners(CORNERS[::-1], "RGB")
    for suffix in ("gif", "png", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        first.save(out / f"animation.{suffix}", save_all=True, append_images=[second], **options)
    corners([ink(colour) for colour in CORNERS], "CMYK").save(out / "cmyk.jpg", quality=90)


main()
