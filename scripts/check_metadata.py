#!/usr/bin/env python3
"""Checks with Pillow and exiftool that edited photos are valid files, stand upright, keep what docs/formats.md
says, and show nothing of the picture before the edit.

    python3 scripts/check_metadata.py target/debug/editmgt

Makes a photo of each format with camera data, place, thumbnails, colour profile, XMP, orientation and
resolution, edits each into each format, and compares what exiftool finds before and after. Prints a
line per pair; exits with 1 where a check fails. Needs Pillow, and exiftool (Debian:
libimage-exiftool-perl).
"""
import base64
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageCms

SCENE = Path(__file__).parent.parent / "examples/scenes/scene.png"
INPUTS = ["jpg", "png", "webp", "tiff", "bmp", "gif"]
OUTPUTS = ["png", "jpg", "webp", "tiff", "bmp"]
# What is written into the photos, by exiftool's names.
EXIF = {"Make": "TestMake", "Model": "TestModel", "DateTimeOriginal": "2024:01:02 03:04:05", "ExposureTime": "1/125",
        "GPSLatitude": "48 0 0", "GPSLatitudeRef": "N", "GPSLongitude": "11 0 0", "GPSLongitudeRef": "E"}
XMP = {"XMP-xmp:Rating": "4", "XMP-GPano:ProjectionType": "equirectangular"}
PICTURES = ["ThumbnailImage", "PreviewImage", "JpgFromRaw", "OtherImage", "PhotoshopThumbnail", "MPImage2", "JFXX"]
# What an output's format has no place for; docs/formats.md says so, and the program's notes.
NO_PLACE = {"bmp": ["EXIF", "XMP"]}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exiftool(path):
    text = subprocess.run(["exiftool", "-json", "-a", "-G1", path], capture_output=True, text=True)
    return json.loads(text.stdout)[0]


def warnings(path):
    """What exiftool finds wrong with a file, but for what it calls minor and for camera data that the photo lacked."""
    text = subprocess.run(["exiftool", "-s3", "-validate", "-warning", "-error", "-a", path], capture_output=True, text=True).stdout
    lines = [line for line in text.splitlines() if not re.match(r"OK|\d+ (Warning|Error)|\[minor\]|Missing required", line)]
    return lines


def by_name(facts):
    return {name.split(":")[-1]: value for name, value in facts.items()}


def photo(folder, extension):
    """The scene as a photo that lies on its side, with everything that the format can say."""
    path = folder / f"photo.{extension}"
    image = Image.open(SCENE).convert("RGB")
    # Orientation 6 is shown turned by a quarter to the right.
    turns = extension in ("jpg", "png", "webp", "tiff")
    image = image.transpose(Image.Transpose.ROTATE_90) if turns else image
    options = {"dpi": (300, 300)} if extension not in ("webp", "gif") else {}
    if extension not in ("bmp", "gif"):
        options["icc_profile"] = PROFILE
    if extension == "jpg":
        options["quality"] = 97
    if extension == "webp":
        options["lossless"] = True
    image.save(path, **options)
    if not turns:
        return path
    tags = [f"-{name}={value}" for name, value in (EXIF | XMP).items()]
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-n", "-Orientation=6", path], check=True)
    subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, path], check=True)
    thumbnail = io.BytesIO()
    image.resize((32, 32)).save(thumbnail, "JPEG", comment=b"OLD-PICTURE")
    (folder / "thumbnail.jpg").write_bytes(thumbnail.getvalue())
    for place in ("ThumbnailImage", "XMP-xmp:ThumbnailImage"):
        subprocess.run(["exiftool", "-q", "-m", "-overwrite_original", f"-{place}<={folder / 'thumbnail.jpg'}", path], capture_output=True)
    facts, bytes_of = by_name(exiftool(path)), path.read_bytes()
    missing = [name for name in (*EXIF, "Rating", "ProjectionType") if name not in facts]
    if missing or (extension != "tiff" and not any(part in bytes_of for part in old_picture(folder))):
        sys.exit(f"{path.name} could not be made: lacks {missing or 'its thumbnail'}")
    return path


def old_picture(folder):
    """What would be left of the thumbnails: as they are, and in base64 by where their bytes begin."""
    path = folder / "thumbnail.jpg"
    whole = path.read_bytes() if path.exists() else b"OLD-PICTURE"
    return [b"OLD-PICTURE", *(base64.b64encode(whole[start:start + 60])[4:-4] for start in range(3))]


def check(program, folder, source, extension):
    out = folder / f"{source.suffix[1:]}-to.{extension}"
    command = [program, "edit", source, "make the red car blue", "--quiet", "-o", out]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        return [run.stderr.strip()], out
    before, after = by_name(exiftool(source)), by_name(exiftool(out))
    problems = []
    with Image.open(out) as image:
        image.load()
        if image.size != Image.open(SCENE).size:
            problems.append(f"size {image.size}")
        if image.getexif().get(0x0112, 1) != 1 or after.get("Orientation", "Horizontal (normal)") != "Horizontal (normal)":
            problems.append("not upright")
        if extension != "bmp" and len(image.info.get("icc_profile") or b"") != (len(PROFILE) if source.suffix not in (".bmp", ".gif") else 0):
            problems.append("another profile")
        # The scene is white in its corners, but for the lower right.
        if max(abs(value - 248) for value in image.convert("RGB").getpixel((2, 2))) > 12:
            problems.append("other pixels")
    problems += [f"{name} is there" for name in PICTURES if name in after]
    written = out.read_bytes()
    if any(part in written for part in old_picture(folder)):
        problems.append("bytes of the old picture are there")
    lacks = NO_PLACE.get(extension, [])
    wanted = ([] if "EXIF" in lacks else list(EXIF)) + ([] if "XMP" in lacks else [name.split(":")[-1] for name in XMP])
    problems += [f"{name}: {before[name]!r} became {after.get(name)!r}" for name in wanted
                 if name in before and before[name] != after.get(name)]
    for kind in lacks:
        if "Make" in before and kind not in run.stderr:
            problems.append(f"no note on {kind}")
    with Image.open(source) as photo, Image.open(out) as image:
        # Neither GIF nor, to Pillow, WebP has a resolution.
        dots, got = (float(picture.info.get("dpi", (0, 0))[0]) for picture in (photo, image))
        if dots and extension != "webp" and abs(dots - got) > 0.6:
            problems.append(f"resolution {dots} became {got}")
    problems += [f"exiftool: {warning}" for warning in warnings(out)]
    return problems, out


def main():
    [program] = sys.argv[1:]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for kind in INPUTS:
            source = photo(folder, kind)
            for extension in OUTPUTS:
                problems, out = check(program, folder, source, extension)
                failed += bool(problems)
                print(f"{kind} -> {extension}: {'; '.join(problems) or 'ok'}")
    version = subprocess.run(["exiftool", "-ver"], capture_output=True, text=True).stdout.strip()
    print(f"{len(INPUTS) * len(OUTPUTS)} pairs, {failed} wrong (Pillow {Image.__version__}, exiftool {version})")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
