#!/usr/bin/env python3
"""Checks with Pillow and exiftool that an edited photo is readable and shows nothing of the original.

    python3 scripts/check_metadata.py ORIGINAL OUTPUT...

Needs Pillow, and exiftool (Debian: libimage-exiftool-perl). Exits with 1 where a check fails.
"""
import json
import subprocess
import sys

from PIL import Image

KEPT = ["Make", "Model", "DateTimeOriginal", "ExposureTime", "GPSLatitude", "Rating", "ProfileDescription"]
PICTURES = ["ThumbnailImage", "PreviewImage", "JpgFromRaw", "OtherImage", "PhotoshopThumbnail", "MPImage2"]


def exiftool(path):
    return json.loads(subprocess.check_output(["exiftool", "-json", "-validate", "-warning", "-a", path]))[0]


def main():
    original, *outputs = sys.argv[1:]
    before, failed = exiftool(original), False
    for path in outputs:
        after = exiftool(path)
        with Image.open(path) as image:
            image.load()
            orientation = image.getexif().get(0x0112, 1)
            facts = [image.format, image.size, image.info.get("dpi"), len(image.info.get("icc_profile") or b"")]
        pictures = [name for name in PICTURES if name in after]
        lost = [name for name in KEPT if name in before and before[name] != after.get(name)]
        good = orientation == 1 and not pictures
        failed |= not good
        print(path, *facts, "ok" if good else "WRONG", f"pictures={pictures} lost={lost}",
              after.get("Validate", ""), after.get("Warning", ""))
    sys.exit(failed)


if __name__ == "__main__":
    main()
