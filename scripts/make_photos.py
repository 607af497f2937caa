#!/usr/bin/env python3
"""Writes the photos of examples/photos/, but for cat.jpg: small versions in several formats, depths,
orientations and odd sizes.

    pip download scikit-image==0.26.0 --no-deps -d wheel && unzip wheel/*.whl -d wheel
    python3 scripts/make_photos.py wheel/skimage/data examples/photos

The photos are in the public domain or under CC0; NOTICE says whose they are. Needs NumPy and Pillow;
the committed files were made with 2.4.6 and 13.0.0.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def sized(image, width, height):
    return image.resize((width, height), Image.Resampling.LANCZOS)


def sixteen_bits(image, width, height):
    """The mean of many pixels of 8 bits has more than 8."""
    wide = sized(image.convert("F"), width, height)
    return Image.fromarray(np.uint16(np.clip(np.asarray(wide) * 257, 0, 65535).round()))


def veiled(image):
    """Opaque in the middle, clear in the corners."""
    height, width = image.height, image.width
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    alpha = np.uint8(np.clip(510 - 340 * np.hypot(x, y), 0, 255))
    image = image.convert("RGB")
    image.putalpha(Image.fromarray(alpha))
    return image


def lying(image, turn, orientation):
    """The picture turned, and EXIF that says how to turn it back."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return image.transpose(turn), exif


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])

    def photo(name):
        return Image.open(data / name)

    sized(photo("astronaut.png"), 199, 199).save(out / "astronaut.png", optimize=True)
    sixteen_bits(photo("camera.png"), 173, 171).save(out / "camera.png")
    veiled(sized(photo("hubble_deep_field.jpg"), 157, 137)).save(out / "hubble.png", optimize=True)
    clock = sized(photo("clock_motion.png"), 211, 158).quantize(64)
    clock.save(out / "clock.gif")
    sized(photo("gravel.png"), 149, 151).save(out / "gravel.bmp")
    coffee, exif = lying(sized(photo("coffee.png"), 401, 267), Image.Transpose.ROTATE_90, 6)
    coffee.save(out / "coffee.webp", quality=85, exif=exif)
    rocket, exif = lying(sized(photo("rocket.jpg"), 321, 213), Image.Transpose.FLIP_LEFT_RIGHT, 2)
    rocket.save(out / "rocket.tiff", compression="tiff_lzw", exif=exif)


if __name__ == "__main__":
    main()
