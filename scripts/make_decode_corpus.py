#!/usr/bin/env python3
"""Makes editmgt/testdata/corpus/: unusual but valid image files, and the pixels that they hold.

    python3 scripts/make_decode_corpus.py editmgt/testdata/corpus

The files are drawn here and written by independent encoders; the pixels are decoded by an
independent decoder, never by this project. `manifest.json` has a row per file:

    file, encoder     the file, and what wrote it, with its version
    expect            "exact", "within" (with `max` and `mean`, in levels of 255), "refused" or
                      "damaged"
    pixels            PNG of the expected pixels, 8 bits, RGB or RGBA, upright; not for the last two
    decoder, reason   what decoded `pixels`; why a difference is allowed, or the file is refused
    named             for "refused": what the message must call the kind

Rows with `expect` "refused" are those of the table KINDS below: valid files of kinds that the program
does not decode and has to refuse by name. Those of "damaged" are files that were cut off. Everything
else has to be decoded as written.

Needs numpy, Pillow, tifffile, imagecodecs, pyvips (with pyvips-binary) and, from Debian,
libjpeg-turbo-progs, libtiff-tools, webp, gifsicle and imagemagick.
"""

import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL
import pyvips
import tifffile
from PIL import Image

OUT = Path(sys.argv[1])
WORK = Path(tempfile.mkdtemp())
ROWS = []

# Inverse transforms may differ by a level per sample before colour conversion (ISO/IEC 10918-2),
# and decoders interpolate subsampled chroma by different filters (ITU T.81 prescribes none), which
# shows only at coloured edges: a wide bound per value, a narrow one on the mean.
LOSSY = {"expect": "within", "max": 6, "mean": 1.0, "reason": "inverse DCTs round differently"}
CHROMA = {"expect": "within", "max": 64, "mean": 3.0, "reason": "chroma is interpolated by another filter"}
INK = {"expect": "within", "max": 6, "mean": 1.5, "reason": "inverse DCTs round differently; naive inks"}


def version(*command):
    run = subprocess.run(command, capture_output=True, text=True)
    text = run.stdout + run.stderr
    return re.search(r"\d+\.\d+(\.[\d-]+)?", text).group(0)


VERSIONS = {
    "Pillow": PIL.__version__,
    "tifffile": tifffile.__version__,
    "imagecodecs": imagecodecs.__version__,
    "vips": f"{pyvips.version(0)}.{pyvips.version(1)}.{pyvips.version(2)}",
    "cjpeg": version("cjpeg", "-version"),
    "jpegtran": version("jpegtran", "-version"),
    "tiffcp": version("tiffcp", "-h"),
    "cwebp": version("cwebp", "-version"),
    "gifsicle": version("gifsicle", "--version"),
    "ImageMagick": version("convert", "-version"),
    "this script": "",
}


# ---- what is drawn ----
def scene(width=37, height=29):
    """Smooth colours, so that JPEG's interpolation matters little, with a few flat shapes."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    rgb = np.stack([
        40 + 180 * x / width,
        210 - 160 * y / height,
        120 + 80 * np.sin(x / 9) * np.cos(y / 7),
    ], -1)
    rgb[height // 2:, : width // 3] = (230, 60, 40)
    rgb[: height // 3, width // 2:] = (30, 90, 200)
    return rgb.round().clip(0, 255).astype(np.uint8)


def opacity(width=37, height=29):
    y, x = np.mgrid[0:height, 0:width]
    alpha = (x * 255 // (width - 1)).astype(np.uint8)
    alpha[: height // 4] = 0
    alpha[-height // 4:] = 255
    return alpha


RGB = scene()
ALPHA = opacity()
RGBA = np.dstack([RGB, ALPHA])
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
BITS = (GREY > 110).astype(np.uint8)
PALETTED = Image.fromarray(RGB).quantize(16)


# ---- rows ----
def png(pixels):
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", optimize=True)
    return out.getvalue()


def add(name, data, encoder, pixels=None, decoder="what was drawn", **how):
    """A row of the corpus. `pixels` is an array, or None for a file that is refused."""
    (OUT / name).write_bytes(data)
    row = {"file": name, "encoder": f"{encoder} {VERSIONS[encoder]}".strip()}
    if re.match(CUT_OFF, name):
        pixels, how = None, {"expect": "damaged", "reason": "cut off"}
    for pattern, (named, reason) in KINDS.items():
        if re.match(pattern, name):
            pixels, how = None, {"expect": "refused", "named": named, "reason": reason}
            break
    row |= {"expect": "exact"} | how
    if pixels is not None:
        pixels = np.asarray(pixels)
        if pixels.ndim == 2:
            pixels = np.dstack([pixels] * 3)
        if pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
            pixels = pixels[..., :3]
        data = png(pixels)
        target = f"pixels/{hashlib.sha256(data).hexdigest()[:12]}.png"
        (OUT / target).write_bytes(data)
        row |= {"pixels": target, "decoder": decoder}
    ROWS.append(row)


def pillow(image, name, format=None, **options):
    out = io.BytesIO()
    image.save(out, format or name.rsplit(".", 1)[1].upper().replace("JPG", "JPEG").replace("TIF", "TIFF"), **options)
    return out.getvalue()


def run(command, data, suffix_in=".ppm", suffix_out=".out"):
    """Runs a command with {in} and {out} in place of files."""
    source, target = WORK / f"in{suffix_in}", WORK / f"out{suffix_out}"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    words = [w.replace("{in}", str(source)).replace("{out}", str(target)) for w in command]
    done = subprocess.run(words, capture_output=True)
    if done.returncode or not target.exists():
        raise SystemExit(f"{words}: {done.stderr.decode()}")
    return target.read_bytes()


def by_pillow(data, mode=None):
    image = Image.open(io.BytesIO(data))
    image.load()
    return np.asarray(image.convert(mode or ("RGBA" if image.has_transparency_data else "RGB")))


def by_vips(data):
    image = pyvips.Image.new_from_buffer(data, "")
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    return image.cast("uchar").numpy()


def by_magick(data, suffix):
    return by_pillow(run(["convert", "{in}[0]", "-depth", "8", "png32:{out}"], data, suffix, ".png"))


PPM = b"P6 37 29 255\n" + RGB.tobytes()
PGM = b"P5 37 29 255\n" + GREY.tobytes()


# ---- JPEG ----
def scans(text):
    path = WORK / "scans.txt"
    path.write_text(text)
    return ["-scans", str(path)]


SEPARATE = "0;\n1;\n2;\n"
NON_INTERLEAVED = """0: 0-0, 0, 1;\n1: 0-0, 0, 1;\n2: 0-0, 0, 1;
0: 1-63, 0, 0;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;
0: 0-0, 1, 0;\n1: 0-0, 1, 0;\n2: 0-0, 1, 0;\n"""
TWO_SCANS = "0;\n1,2;\n"


def segment(kind, body):
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


def without(data, kinds):
    """A JPEG without the segments of these kinds before its first scan."""
    out, at = data[:2], 2
    while data[at + 1] != 0xDA:
        length = 2 + struct.unpack(">H", data[at + 2: at + 4])[0]
        if data[at + 1] not in kinds:
            out += data[at: at + length]
        at += length
    return out + data[at:]


def jpegs():
    for sampling in ("1x1", "2x1", "2x2", "1x2", "4x1", "4x2"):
        bound = LOSSY if sampling == "1x1" else CHROMA
        base = ["cjpeg", "-quality", "92", "-sample", sampling, "-outfile", "{out}"]
        for kind, options in [
            ("baseline", ["-baseline"]),
            ("progressive", ["-progressive"]),
            ("restart", ["-restart", "2B"]),
            ("optimized-restart-rows", ["-optimize", "-restart", "1"]),
            ("separate", scans(SEPARATE)),
            ("two-scans", scans(TWO_SCANS)),
            ("separate-restart", [*scans(SEPARATE), "-restart", "3B"]),
            ("noninterleaved-progressive", scans(NON_INTERLEAVED)),
            ("arithmetic", ["-arithmetic"]),
        ]:
            name = f"jpeg-{sampling}-{kind}.jpg"
            data = run([*base, *options, "{in}"], PPM)
            add(name, data, "cjpeg", by_pillow(data), "libjpeg-turbo in Pillow", **bound)
    # Odd sizes: every remainder of a block of 8 and of 16 pixels.
    for size in [(8, 8), (9, 15), (16, 17), (17, 8), (33, 31), (8, 64)]:
        for kind, options in [("baseline", []), ("separate", scans(SEPARATE)), ("progressive", ["-progressive"])]:
            ppm = b"P6 %d %d 255\n" % size + scene(*size).tobytes()
            data = run(["cjpeg", "-quality", "92", *options, "-outfile", "{out}", "{in}"], ppm)
            add(f"jpeg-size-{size[0]}x{size[1]}-{kind}.jpg", data, "cjpeg", by_pillow(data),
                "libjpeg-turbo in Pillow", **CHROMA)
    grey = run(["cjpeg", "-grayscale", "-quality", "92", "-outfile", "{out}", "{in}"], PGM)
    add("jpeg-grey.jpg", grey, "cjpeg", by_pillow(grey, "RGB"), "libjpeg-turbo in Pillow", **LOSSY)
    for kind, options in [("progressive", ["-progressive"]), ("restart", ["-restart", "1B"]), ("arithmetic", ["-arithmetic"])]:
        data = run(["jpegtran", *options, "-outfile", "{out}", "{in}"], grey)
        add(f"jpeg-grey-{kind}.jpg", data, "jpegtran", by_pillow(data, "RGB"), "libjpeg-turbo in Pillow", **LOSSY)
    rgb = run(["cjpeg", "-rgb", "-quality", "92", "-outfile", "{out}", "{in}"], PPM)
    add("jpeg-rgb-adobe.jpg", rgb, "cjpeg", by_pillow(rgb), "libjpeg-turbo in Pillow", **LOSSY)
    # Component ids R, G, B and no Adobe marker: libjpeg takes them for RGB.
    bare = without(rgb, {0xEE})
    add("jpeg-rgb-ids.jpg", bare, "cjpeg", by_pillow(bare), "libjpeg-turbo in Pillow", **LOSSY)
    data = run(["cjpeg", "-rgb", *scans(SEPARATE), "-outfile", "{out}", "{in}"], PPM)
    add("jpeg-rgb-separate.jpg", data, "cjpeg", by_pillow(data), "libjpeg-turbo in Pillow", **LOSSY)
    # Inks. Pillow keeps them as the Adobe marker says, inverted, and the pixels are the product of
    # ink-free shares.
    cmyk = np.dstack([255 - RGB, np.full(RGB.shape[:2], 40, np.uint8)])
    light = lambda inks: ((255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255).round().astype(np.uint8)
    data = pillow(Image.fromarray(cmyk, "CMYK"), "x.jpg", quality=95)
    inks = np.asarray(Image.open(io.BytesIO(data)))
    add("jpeg-cmyk-adobe.jpg", data, "Pillow", light(inks), "libjpeg-turbo in Pillow", **INK)
    bare = without(data, {0xEE})
    add("jpeg-cmyk-plain.jpg", bare, "Pillow", None)
    ycck = run(["convert", "{in}", "-quality", "95", "-sampling-factor", "1x1", "jpg:{out}"],
               pillow(Image.fromarray(cmyk, "CMYK"), "x.tif"), ".tif")
    image = Image.open(io.BytesIO(ycck))
    add("jpeg-ycck-adobe.jpg", ycck, "ImageMagick", light(np.asarray(image)), "libjpeg-turbo in Pillow", **INK)
    for kind, options in [("progressive", ["-progressive"]), ("separate", scans("0;\n1;\n2;\n3;\n"))]:
        data = run(["jpegtran", *options, "-copy", "all", "-outfile", "{out}", "{in}"], ycck)
        add(f"jpeg-ycck-{kind}.jpg", data, "jpegtran", light(np.asarray(Image.open(io.BytesIO(data)))),
            "libjpeg-turbo in Pillow", **INK)
    # Processes that few decoders have.
    deep = (RGB.astype(np.uint16) << 4) | (RGB >> 4)
    add("jpeg-12bit.jpg", imagecodecs.jpeg_encode(deep, bitspersample=12), "imagecodecs", None)
    add("jpeg-lossless-rgb.jpg", imagecodecs.ljpeg_encode(RGB[..., 0].copy(), bitspersample=8), "imagecodecs", None)
    add("jpeg-lossless16.jpg", imagecodecs.ljpeg_encode(GREY.astype(np.uint16) * 257, bitspersample=16), "imagecodecs", None)
    # Without an end, with something behind it, and both.
    for source in ("jpeg-2x2-baseline.jpg", "jpeg-2x2-progressive.jpg", "jpeg-2x2-separate.jpg", "jpeg-1x1-restart.jpg", "jpeg-grey.jpg"):
        data = (OUT / source).read_bytes()
        stem, pixels = source[5:-4], by_pillow(data, "RGB")
        bound = LOSSY if "1x1" in source or "grey" in source else CHROMA
        trailer = b"SEFH\x6a\0\0\0\x01\0\0\0\0\0\x01\x0a" + bytes(range(200)) + b"SEFT"
        for kind, changed in [("no-end", data[:-2]), ("half-end", data[:-1]), ("trailer", data + trailer),
                              ("second-picture", data + grey), ("no-end-trailer", data[:-2] + b"SEFHtrailer")]:
            add(f"jpeg-{stem}-{kind}.jpg", changed, "this script", pixels, "libjpeg-turbo in Pillow", **bound)
        add(f"jpeg-{stem}-cut.jpg", data[:len(data) * 3 // 4], "this script", None)
        add(f"jpeg-{stem}-cut-last-block.jpg", data[:-6], "this script", None)


# ---- PNG ----
def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width, height, depth, colour, rows, before=b"", idat=None):
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    step = idat or len(data)
    parts = [chunk(b"IDAT", data[at: at + step]) for at in range(0, len(data), step)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + b"".join(parts) + chunk(b"IEND", b"")


def packed(values, bits):
    """Rows of numbers of 1, 2, 4 or 8 bits as bytes, the first in the highest bits."""
    rows = []
    for row in values:
        word = "".join(format(int(v), f"0{bits}b") for v in row)
        word += "0" * (-len(word) % 8)
        rows.append(bytes(int(word[i: i + 8], 2) for i in range(0, len(word), 8)))
    return rows


def exact(name, data, encoder, decode=by_pillow, decoder="Pillow"):
    add(name, data, encoder, decode(data), decoder)


def pngs():
    for bits in (1, 2, 4, 8):
        levels = GREY >> (8 - bits)
        data = raw_png(37, 29, bits, 0, packed(levels, bits))
        top = (1 << bits) - 1
        pixels = (levels.astype(int) * 255 // top).astype(np.uint8)
        add(f"png-grey{bits}.png", data, "this script", pixels)
        clear = chunk(b"tRNS", struct.pack(">H", 1))
        alpha = np.where(levels == 1, 0, 255).astype(np.uint8)
        data = raw_png(37, 29, bits, 0, packed(levels, bits), clear)
        add(f"png-grey{bits}-trns.png", data, "this script", np.dstack([pixels] * 3 + [alpha]))
        index = np.asarray(Image.fromarray(RGB).quantize(1 << min(bits, 6)))
        palette = bytes(Image.fromarray(RGB).quantize(1 << min(bits, 6)).getpalette()[: 3 << min(bits, 6)])
        colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        data = raw_png(37, 29, bits, 3, packed(index, bits), chunk(b"PLTE", palette))
        add(f"png-palette{bits}.png", data, "this script", colours[index])
        fade = bytes([0, 100][: 1 << bits])  # shorter than the palette: the others are opaque
        alpha = np.array(list(fade) + [255] * (len(colours) - len(fade)), np.uint8)[index]
        data = raw_png(37, 29, bits, 3, packed(index, bits), chunk(b"PLTE", palette) + chunk(b"tRNS", fade))
        add(f"png-palette{bits}-trns.png", data, "this script", np.dstack([colours[index], alpha]))
    deep = (RGB.astype(">u2") * 257)
    down = lambda values: ((values.astype(int) + 128) // 257).astype(np.uint8)
    skew = (RGB.astype(int) * 257 + np.arange(37)[None, :, None] * 3).clip(0, 65535).astype(">u2")
    add("png-rgb16.png", raw_png(37, 29, 16, 2, [r.tobytes() for r in skew]), "this script", down(skew))
    add("png-grey16.png", raw_png(37, 29, 16, 0, [r.tobytes() for r in skew[..., 0]]), "this script", down(skew[..., 0]))
    rgba = np.dstack([deep, ALPHA.astype(">u2") * 257])
    add("png-rgba16.png", raw_png(37, 29, 16, 6, [r.tobytes() for r in rgba]), "this script", RGBA)
    la = np.dstack([deep[..., 0], ALPHA.astype(">u2") * 257])
    add("png-greyalpha16.png", raw_png(37, 29, 16, 4, [r.tobytes() for r in la]), "this script",
        np.dstack([RGB[..., 0]] * 3 + [ALPHA]))
    # A colour of 16 bits is transparent as a whole, not by its high bytes.
    key = chunk(b"tRNS", struct.pack(">3H", *[int(v) for v in skew[20, 20]]))
    alpha = np.where((skew == skew[20, 20]).all(-1), 0, 255).astype(np.uint8)
    add("png-rgb16-trns.png", raw_png(37, 29, 16, 2, [r.tobytes() for r in skew], key), "this script",
        np.dstack([down(skew), alpha]))
    key = chunk(b"tRNS", struct.pack(">3H", 230, 60, 40))
    alpha = np.where((RGB == (230, 60, 40)).all(-1), 0, 255).astype(np.uint8)
    add("png-rgb8-trns.png", raw_png(37, 29, 8, 2, [r.tobytes() for r in RGB], key), "this script", np.dstack([RGB, alpha]))
    rows = [r.tobytes() for r in RGB]
    add("png-small-idats.png", raw_png(37, 29, 8, 2, rows, idat=1), "this script", RGB)
    add("png-empty-idat.png", raw_png(37, 29, 8, 2, rows, idat=700).replace(chunk(b"IEND", b""), chunk(b"IDAT", b"") + chunk(b"IEND", b"")), "this script", RGB)
    for mode, array in [("rgb", RGB), ("rgba", RGBA), ("grey", GREY)]:
        source = png(array)
        data = run(["convert", "{in}", "-interlace", "PNG", "png:{out}"], source, ".png")
        add(f"png-{mode}-interlaced.png", data, "ImageMagick", array)
        image = pyvips.Image.new_from_buffer(source, "")
        add(f"png-{mode}-vips.png", image.pngsave_buffer(compression=1, interlace=mode == "rgba"), "vips", array)
    for bits in (1, 2, 4):
        image = pyvips.Image.new_from_array(GREY).cast("uchar").copy(interpretation="b-w")
        data = image.pngsave_buffer(bitdepth=bits, interlace=True)
        exact(f"png-vips{bits}-interlaced.png", data, "vips", lambda data: by_pillow(data, "RGB"))


# ---- WebP ----
def webps():
    for name, array, options, bound in [
        ("lossy", RGB, ["-q", "80"], CHROMA), ("lossy-alpha", RGBA, ["-q", "80", "-exact"], CHROMA),
        ("lossy-alpha-raw", RGBA, ["-q", "80", "-alpha_method", "0", "-exact"], CHROMA),
        ("lossless", RGB, ["-lossless"], {}), ("lossless-alpha", RGBA, ["-lossless", "-exact"], {}),
        ("lossless-palette", np.asarray(PALETTED.convert("RGB")), ["-lossless", "-z", "9"], {}),
        ("near-lossless", RGB, ["-near_lossless", "60"], {}),
        ("lossy-segments", RGB, ["-q", "30", "-segments", "4", "-sns", "100", "-f", "80"], CHROMA),
        ("lossy-partitions", RGB, ["-q", "70", "-partition_limit", "90", "-sharpness", "5", "-strong"], CHROMA),
    ]:
        data = run(["cwebp", "-quiet", *options, "{in}", "-o", "{out}"], png(array), ".png", ".webp")
        add(f"webp-{name}.webp", data, "cwebp", by_pillow(data), "libwebp in Pillow", **bound)
    data = pillow(Image.fromarray(RGB), "x.webp", lossless=True, icc_profile=b"\0" * 132)
    add("webp-extended.webp", data, "Pillow", RGB)
    frames = [Image.fromarray(RGBA), Image.fromarray(RGBA[::-1].copy())]
    data = pillow(frames[0], "x.webp", save_all=True, append_images=frames[1:], lossless=True, exact=True)
    add("webp-animated.webp", data, "Pillow", RGBA)
    for size in [(8, 8), (17, 33)]:
        data = run(["cwebp", "-quiet", "-q", "80", "{in}", "-o", "{out}"], png(scene(*size)), ".png", ".webp")
        add(f"webp-size-{size[0]}x{size[1]}.webp", data, "cwebp", by_pillow(data), "libwebp in Pillow", **CHROMA)


# ---- BMP ----
def bmp(width, height, bits, rows, palette=b"", compression=0, masks=b"", header=40, body=None):
    """A BMP file; `rows` are the rows from the top, unpadded; a negative height is top-down."""
    if body is None:
        lines = [row + b"\0" * (-len(row) % 4) for row in rows]
        body = b"".join(lines if height < 0 else lines[::-1])
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        used = 0 if bits > 8 else len(palette) // 4
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(body), 2835, 2835, used, 0)
        info += masks.ljust(header - 40, b"\0") if header > 40 else masks
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body


def rle8(index):
    out = b""
    for row in index[::-1]:
        at = 0
        while at < len(row):
            n = 1
            while at + n < len(row) and row[at + n] == row[at] and n < 255:
                n += 1
            if n < 2 and at + 4 < len(row):  # an absolute run of odd length, padded
                out += bytes([0, 3, *row[at: at + 3], 0])
                at += 3
            else:
                out += bytes([n, row[at]])
                at += n
        out += b"\0\0"
    return out + b"\0\1"


def rle4(index):
    out = b""
    for row in index[::-1]:
        for at in range(0, len(row), 2):
            pair = list(row[at: at + 2]) + [0]
            out += bytes([min(2, len(row) - at), pair[0] << 4 | pair[1]])
        out += b"\0\0"
    return out + b"\0\1"


def bmps():
    bgr = [r[:, ::-1].tobytes() for r in RGB]
    add("bmp-24.bmp", bmp(37, 29, 24, bgr), "this script", RGB)
    add("bmp-24-top-down.bmp", bmp(37, -29, 24, bgr), "this script", RGB)
    add("bmp-24-os2.bmp", bmp(37, 29, 24, bgr, header=12), "this script", RGB)
    for bits, count in [(1, 2), (4, 16), (8, 64)]:
        image = Image.fromarray(RGB).quantize(count)
        index = np.asarray(image)
        colours = np.array(image.getpalette()[: 3 * count], np.uint8).reshape(-1, 3)
        quads = b"".join(bytes([*c[::-1], 0]) for c in colours)
        rows = packed(index, bits)
        add(f"bmp-{bits}.bmp", bmp(37, 29, bits, rows, quads), "this script", colours[index])
        add(f"bmp-{bits}-top-down.bmp", bmp(37, -29, bits, rows, quads), "this script", colours[index])
        # OS/2's palette is always whole.
        triples = b"".join(bytes(c[::-1]) for c in colours).ljust(3 << bits, b"\0")
        add(f"bmp-{bits}-os2.bmp", bmp(37, 29, bits, rows, triples, header=12), "this script", colours[index])
        if bits == 8:
            add("bmp-rle8.bmp", bmp(37, 29, 8, [], quads, 1, body=rle8(index)), "this script", colours[index])
        if bits == 4:
            add("bmp-rle4.bmp", bmp(37, 29, 4, [], quads, 2, body=rle4(index)), "this script", colours[index])
    fives = RGB >> 3
    word = (fives[..., 0].astype("<u2") << 10) | (fives[..., 1].astype("<u2") << 5) | fives[..., 2]
    wide = lambda v, top: ((v.astype(int) * 255 + top // 2) // top).astype(np.uint8)
    add("bmp-555.bmp", bmp(37, 29, 16, [r.tobytes() for r in word.astype("<u2")]), "this script", wide(fives, 31), **FIVES)
    six = RGB[..., 1] >> 2
    word = ((RGB[..., 0] >> 3).astype("<u2") << 11) | (six.astype("<u2") << 5) | (RGB[..., 2] >> 3)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    colours = np.dstack([wide(RGB[..., 0] >> 3, 31), wide(six, 63), wide(RGB[..., 2] >> 3, 31)])
    add("bmp-565.bmp", bmp(37, 29, 16, [r.tobytes() for r in word.astype("<u2")], compression=3, masks=masks), "this script", colours, **FIVES)
    bgra = [r[:, [2, 1, 0, 3]].tobytes() for r in RGBA]
    blank = [np.dstack([r[None, :, ::-1], np.zeros((1, 37), np.uint8)]).tobytes() for r in RGB]
    full = [np.dstack([r[None, :, ::-1], np.full((1, 37), 255, np.uint8)]).tobytes() for r in RGB]
    add("bmp-32.bmp", bmp(37, 29, 32, blank), "this script", RGB)
    add("bmp-32-filler-255.bmp", bmp(37, 29, 32, full), "this script", RGB)
    v4 = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for header in (56, 108, 124):
        add(f"bmp-32-alpha-v{header}.bmp", bmp(37, 29, 32, bgra, compression=3, masks=v4, header=header), "this script", RGBA)
        add(f"bmp-32-alpha0-v{header}.bmp", bmp(37, 29, 32, blank, compression=3, masks=v4, header=header), "this script", RGB)
    masks = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    rgbx = [np.dstack([r[None], np.zeros((1, 37), np.uint8)]).tobytes() for r in RGB]
    add("bmp-32-bitfields.bmp", bmp(37, 29, 32, rgbx, compression=3, masks=masks), "this script", RGB)
    ten = (RGB.astype("<u4") << 2) | (RGB >> 6)
    word = (ten[..., 0] << 20) | (ten[..., 1] << 10) | ten[..., 2]
    masks = struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)
    add("bmp-32-10bit.bmp", bmp(37, 29, 32, [r.astype("<u4").tobytes() for r in word], compression=3, masks=masks), "this script", RGB)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        image = PALETTED if mode == "P" else Image.fromarray(RGBA if mode == "RGBA" else RGB).convert(mode)
        data = pillow(image, "x.bmp")
        # Pillow's own reader ignores opacity in a header of 40 bytes, which does not declare it.
        exact(f"bmp-pillow-{mode}.bmp", data, "Pillow", lambda data: by_pillow(data, "RGB"))
    for kind in ("bmp2", "bmp3", "bmp"):
        data = run(["convert", "{in}", f"{kind}:{{out}}"], png(RGB), ".png")
        add(f"bmp-magick-{kind}.bmp", data, "ImageMagick", RGB)


FIVES = {"expect": "within", "max": 4, "mean": 2.0, "reason": "5 and 6 bits become 8 by shifts or by rounding"}


# ---- TIFF ----
def tif(array, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, software=False, **options)
    return out.getvalue()


def tiffs():
    for compression in ("none", "lzw", "zlib", "packbits", "zstd", "lzma"):
        for predictor in (False, True) if compression in ("lzw", "zlib", "zstd", "lzma") else (False,):
            for tile in (None, (16, 16)):
                for planar in ("contig", "separate"):
                    array = RGB if planar == "contig" else np.moveaxis(RGB, -1, 0).copy()
                    kind = f"{compression}{'-predictor' * predictor}-{'tiles' if tile else 'strips'}-{planar}"
                    data = tif(array, photometric="rgb", planarconfig=planar, tile=tile, predictor=predictor,
                               compression=None if compression == "none" else compression,
                               **({} if tile else {"rowsperstrip": 7}))
                    add(f"tiff-{kind}.tiff", data, "tifffile", RGB)
    deep = RGB.astype(np.uint16) * 257
    for order, word in (("<", "little"), (">", "big")):
        for big in (False, True):
            data = tif(deep, photometric="rgb", byteorder=order, bigtiff=big, compression="lzw", predictor=True)
            add(f"tiff-rgb16-{word}{'-bigtiff' * big}.tiff", data, "tifffile", RGB)
            add(f"tiff-rgb8-{word}{'-bigtiff' * big}.tiff", tif(RGB, photometric="rgb", byteorder=order, bigtiff=big), "tifffile", RGB)
    for bits in (1, 2, 4, 8, 16, 32):
        for white in (False, True):
            top = (1 << bits) - 1
            levels = (GREY.astype(np.uint64) * top // 255) if bits > 8 else (GREY >> (8 - bits)).astype(np.uint64)
            stored = top - levels if white else levels
            pixels = ((levels.astype(float) * 255 / top) + 0.5).astype(int).clip(0, 255).astype(np.uint8)
            if bits < 8:
                data = raw_tiff(37, 29, packed(stored, bits), bits, 0 if white else 1)
                add(f"tiff-grey{bits}{'-min-is-white' * white}.tiff", data, "this script", pixels)
            else:
                kind = {8: np.uint8, 16: np.uint16, 32: np.uint32}[bits]
                data = tif(stored.astype(kind), photometric="miniswhite" if white else "minisblack")
                add(f"tiff-grey{bits}{'-min-is-white' * white}.tiff", data, "tifffile", pixels)
    light = RGB.astype(np.float32) / np.float32(255)
    add("tiff-rgb-float32.tiff", tif(light, photometric="rgb"), "tifffile", RGB)
    add("tiff-rgb-float32-predictor.tiff", tif(light, photometric="rgb", compression="zlib", predictor=True), "tifffile", RGB)
    add("tiff-rgb-float16.tiff", tif(light.astype(np.float16), photometric="rgb"), "tifffile", RGB)
    add("tiff-grey-float32.tiff", tif(light[..., 0].copy(), photometric="minisblack"), "tifffile", RGB[..., 0])
    add("tiff-rgb32.tiff", tif(RGB.astype(np.uint32) * 0x01010101, photometric="rgb"), "tifffile", RGB)
    add("tiff-rgb8-signed.tiff", tif((RGB // 2).astype(np.int8), photometric="rgb"), "tifffile", None)
    # Opacity. Associated colours are multiplied by it, and rounded.
    part = lambda alpha, top: (RGB.astype(np.int64) * (top // 255) * alpha[..., None] + top // 2) // top
    back = lambda colours, alpha, top: np.where(
        alpha[..., None] > 0, (colours * 255 * 2 + alpha[..., None]) // (2 * np.maximum(alpha[..., None], 1)), 0).clip(0, 255).astype(np.uint8)
    for bits, kind in ((8, np.uint8), (16, np.uint16)):
        top = (1 << bits) - 1
        alpha = ALPHA.astype(np.int64) * (top // 255)
        straight = np.dstack([RGB.astype(np.int64) * (top // 255), alpha]).astype(kind)
        product = part(alpha, top)
        premultiplied = np.dstack([product, alpha]).astype(kind)
        for compression in (None, "lzw"):
            word = f"{bits}{'-lzw' if compression else ''}"
            options = {"photometric": "rgb", "compression": compression, "predictor": bool(compression)}
            add(f"tiff-rgba{word}-unassociated.tiff", tif(straight, extrasamples=["unassalpha"], **options), "tifffile", RGBA)
            pixels = np.dstack([back(product, alpha, top), ALPHA])
            add(f"tiff-rgba{word}-associated.tiff", tif(premultiplied, extrasamples=["assocalpha"], **options), "tifffile", pixels)
            add(f"tiff-rgbx{word}-unspecified.tiff", tif(straight, extrasamples=["unspecified"], **options), "tifffile", RGB)
    grey = np.dstack([GREY, ALPHA])
    add("tiff-greyalpha8-unassociated.tiff", tif(grey, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]), "tifffile",
        np.dstack([GREY, GREY, GREY, ALPHA]))
    product = (GREY.astype(np.int64) * ALPHA + 127) // 255
    lone = back(product[..., None], ALPHA.astype(np.int64), 255)[..., 0]
    add("tiff-greyalpha8-associated.tiff", tif(np.dstack([product, ALPHA]).astype(np.uint8), photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"]),
        "tifffile", np.dstack([lone, lone, lone, ALPHA]))
    five = np.dstack([RGBA, GREY])
    add("tiff-rgba8-and-one.tiff", tif(five, photometric="rgb", planarconfig="contig", extrasamples=["unassalpha", "unspecified"]), "tifffile", RGBA)
    five = np.dstack([RGB, GREY, ALPHA])
    add("tiff-rgb8-two-unspecified.tiff", tif(five, photometric="rgb", planarconfig="contig", extrasamples=["unspecified", "unspecified"]), "tifffile", RGB)
    planes = np.moveaxis(RGBA, -1, 0).copy()
    add("tiff-rgba8-planes.tiff", tif(planes, photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"]), "tifffile", RGBA)
    float_part = (light * (ALPHA / 255)[..., None]).astype(np.float32)
    with_alpha = np.dstack([float_part, (ALPHA / 255).astype(np.float32)])
    add("tiff-rgba-float32-associated.tiff", tif(with_alpha, photometric="rgb", extrasamples=["assocalpha"]), "tifffile",
        np.where(ALPHA[..., None] > 0, RGBA, 0))
    half = np.dstack([RGB, np.zeros_like(ALPHA)])
    add("tiff-rgba8-alpha0.tiff", tif(half, photometric="rgb", extrasamples=["unassalpha"]), "tifffile", RGB)
    # Inks and other colour spaces.
    inks = np.dstack([255 - RGB, np.full(RGB.shape[:2], 40, np.uint8)])
    product = ((255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255).round().astype(np.uint8)
    near = {"expect": "within", "max": 1, "mean": 0.6, "reason": "naive inks are rounded in another order"}
    add("tiff-cmyk8.tiff", tif(inks, photometric="separated"), "tifffile", product, **near)
    add("tiff-cmyk16.tiff", tif(inks.astype(np.uint16) * 257, photometric="separated"), "tifffile", product, **near)
    add("tiff-cmyk8-planes.tiff", tif(np.moveaxis(inks, -1, 0).copy(), photometric="separated", planarconfig="separate"), "tifffile", product, **near)
    add("tiff-cmyk8-alpha.tiff", tif(np.dstack([inks, ALPHA]), photometric="separated", planarconfig="contig", extrasamples=["unassalpha"]), "tifffile",
        np.dstack([product, ALPHA]), **near)
    lab = pyvips.Image.new_from_buffer(png(RGB), "").colourspace("lab")
    add("tiff-lab.tiff", lab.tiffsave_buffer(), "vips", None)
    add("tiff-lab8.tiff", raw_tiff(37, 29, [r.tobytes() for r in RGB], 8, 8, samples=3), "this script", None)
    ycc = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    add("tiff-ycbcr.tiff", raw_tiff(37, 29, [r.tobytes() for r in ycc], 8, 6, samples=3, more=[(530, 3, [1, 1])]), "this script",
        np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB")), **near)
    # Palettes.
    for bits in (1, 2, 4, 8):
        image = Image.fromarray(RGB).quantize(1 << min(bits, 6))
        index = np.asarray(image)
        colours = np.array(image.getpalette()[: 3 << min(bits, 6)], np.uint8).reshape(-1, 3)
        table = np.zeros((1 << bits, 3), np.uint16)
        table[: len(colours)] = colours.astype(np.uint16) * 257
        data = raw_tiff(37, 29, packed(index, bits), bits, 3, more=[(320, 3, [int(v) for v in table.T.ravel()])])
        add(f"tiff-palette{bits}.tiff", data, "this script", colours[index])
    # By libtiff and others.
    plain = tif(RGB, photometric="rgb")
    for kind, options in [("lzw", ["-c", "lzw:2"]), ("zip", ["-c", "zip:2"]), ("packbits", ["-c", "packbits"]), ("jpeg", ["-c", "jpeg:r:95"]),
                          ("tiles", ["-t", "-w", "16", "-l", "16"]), ("planes", ["-p", "separate"]), ("big-endian", ["-B"]), ("bigtiff", ["-8"]),
                          ("fill-lsb", ["-f", "lsb2msb", "-c", "lzw"]), ("jpeg-ycbcr", ["-c", "jpeg:95"]), ("rows", ["-r", "1", "-c", "zip"])]:
        data = run(["tiffcp", *options, "{in}", "{out}"], plain, ".tif", ".tif")
        if "jpeg" in kind:
            add(f"tiff-tiffcp-{kind}.tiff", data, "tiffcp", by_vips(data)[..., :3], "libtiff in vips", **CHROMA)
        else:
            add(f"tiff-tiffcp-{kind}.tiff", data, "tiffcp", RGB)
    black = raw_tiff(37, 29, packed(1 - BITS, 1), 1, 0)
    for kind in ("g3", "g3:2d", "g4", "lzw", "packbits", "zip", "none"):
        data = run(["tiffcp", "-c", kind, "{in}", "{out}"], black, ".tif", ".tif")
        add(f"tiff-bits-{kind.replace(':', '-')}.tiff", data, "tiffcp", BITS * 255)
    for orientation, turn in enumerate([
        lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1], lambda a: a.swapaxes(0, 1),
        lambda a: a[::-1].swapaxes(0, 1), lambda a: a[::-1, ::-1].swapaxes(0, 1), lambda a: a[:, ::-1].swapaxes(0, 1)], 1):
        data = tif(RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
        add(f"tiff-orientation{orientation}.tiff", data, "tifffile", turn(RGB))
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        writer.write(RGB[::-1].copy(), photometric="rgb", metadata=None)
    add("tiff-two-pages.tiff", pages.getvalue(), "tifffile", RGB)
    for compression in ("lzw", "deflate", "packbits", "jpeg", "ccittfax4"):
        image = pyvips.Image.new_from_buffer(png(BITS * 255 if compression == "ccittfax4" else RGB), "")
        if compression == "ccittfax4":
            image = image.extract_band(0)
        bound = CHROMA if compression == "jpeg" else {}
        data = image.tiffsave_buffer(compression=compression, pyramid=False, tile=compression != "ccittfax4", tile_width=32, tile_height=32,
                                     bitdepth=1 if compression == "ccittfax4" else 0, Q=95)
        pixels = by_vips(data)
        add(f"tiff-vips-{compression}.tiff", data, "vips", pixels[..., 0] if pixels.shape[-1] == 1 else pixels, "libtiff in vips", **bound)


def raw_tiff(width, height, rows, bits, photometric, samples=1, more=()):
    data = b"".join(rows)
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * samples), (259, 3, [1]), (262, 3, [photometric]),
            (273, 4, [0]), (277, 3, [samples]), (278, 4, [height]), (279, 4, [len(data)]), *more]
    tags.sort()
    size, tail, entries = 8 + 2 + 12 * len(tags) + 4, b"", b""
    packs = [(kind, struct.pack(f"<{len(values)}{'HI'[kind == 4]}", *values)) for _, kind, values in tags]
    spill = sum(len(body) for _, body in packs if len(body) > 4)
    for (tag, kind, values), (_, body) in zip(tags, packs):
        if tag == 273:
            body = struct.pack("<I", size + spill)
        entries += struct.pack("<HHI", tag, kind, len(values))
        if len(body) > 4:
            entries += struct.pack("<I", size + len(tail))
            tail += body
        else:
            entries += body.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + tail + data


# ---- GIF ----
def sub_blocks(data):
    return b"".join(bytes([len(data[i: i + 255])]) + data[i: i + 255] for i in range(0, len(data), 255)) + b"\0"


def lzw(index, bits):
    """Codes of one pixel each, with a clear code before the width would grow."""
    clear, out, at = 1 << bits, "", 0
    codes = []
    for value in index:
        if at % ((1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(int(value))
        at += 1
    codes.append(clear + 1)
    word = "".join(format(c, f"0{bits + 1}b")[::-1] for c in codes)
    word += "0" * (-len(word) % 8)
    return bytes([bits]) + sub_blocks(bytes(int(word[i: i + 8][::-1], 2) for i in range(0, len(word), 8)))


def gifs():
    index = np.asarray(PALETTED)
    colours = np.array(PALETTED.getpalette()[:48], np.uint8).reshape(-1, 3)
    table = colours.tobytes()
    head = lambda global_table: b"GIF89a" + struct.pack("<HHBBB", 37, 29, 0xF3 if global_table else 0x70, 2, 0) + (table if global_table else b"")

    def frame(index, left=0, top=0, local=b"", interlaced=False, clear=None, disposal=0):
        control = b"" if clear is None and not disposal else b"\x21\xf9\x04" + bytes([disposal << 2 | (clear is not None)]) + b"\x0a\0" + bytes([clear or 0, 0])
        height, width = index.shape
        rows = list(range(height))
        if interlaced:
            rows = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        flags = (0x83 if local else 0) | (0x40 if interlaced else 0)
        return control + b"\x2c" + struct.pack("<HHHHB", left, top, width, height, flags) + local + lzw(index[rows].ravel(), 4)

    end = b"\x3b"
    other = colours[:, ::-1].copy()
    alpha = lambda index, clear: np.where(index == clear, 0, 255).astype(np.uint8)
    add("gif-plain.gif", head(True) + frame(index) + end, "this script", colours[index])
    add("gif-interlaced.gif", head(True) + frame(index, interlaced=True) + end, "this script", colours[index])
    add("gif-local-palette.gif", head(True) + frame(index, local=other.tobytes()) + end, "this script", other[index])
    add("gif-no-global-palette.gif", head(False) + frame(index, local=table) + end, "this script", colours[index])
    clear = int(index[0, 0])
    shown = np.dstack([colours[index], alpha(index, clear)])
    shown[index == clear] = 0
    add("gif-transparent.gif", head(True) + frame(index, clear=clear) + end, "this script", shown, hidden_colours="any")
    # A first frame that is smaller than the canvas: what it leaves is transparent.
    part = index[5:21, 7:30]
    shown = np.zeros((29, 37, 4), np.uint8)
    shown[5:21, 7:30, :3] = colours[part]
    shown[5:21, 7:30, 3] = 255
    add("gif-offset.gif", head(True) + frame(part, 7, 5) + end, "this script", shown, hidden_colours="any")
    add("gif-offset-interlaced.gif", head(True) + frame(part, 7, 5, interlaced=True) + end, "this script", shown, hidden_colours="any")
    for disposal in (1, 2, 3):
        data = head(True) + frame(index, disposal=disposal) + frame(index[::-1], clear=3, disposal=disposal) + end
        add(f"gif-disposal{disposal}.gif", data, "this script", colours[index])
    add("gif-87a.gif", head(True).replace(b"89a", b"87a") + frame(index) + end, "this script", colours[index])
    data = run(["gifsicle", "--interlace", "-O3", "{in}", "-o", "{out}"], pillow(PALETTED, "x.gif"), ".gif", ".gif")
    add("gif-gifsicle-interlaced.gif", data, "gifsicle", by_pillow(data, "RGB"), "Pillow")
    data = run(["gifsicle", "--resize", "40x40", "--colors", "8", "{in}", "-o", "{out}"], pillow(PALETTED, "x.gif"), ".gif", ".gif")
    add("gif-gifsicle-resized.gif", data, "gifsicle", by_pillow(data, "RGB"), "Pillow")
    data = pyvips.Image.new_from_buffer(png(RGB), "").gifsave_buffer(interlace=True)
    add("gif-vips.gif", data, "vips", by_pillow(data, "RGB"), "Pillow")
    data = run(["convert", "{in}", "-colors", "200", "gif:{out}"], png(RGB), ".png")
    add("gif-magick.gif", data, "ImageMagick", by_pillow(data, "RGB"), "Pillow")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in [*OUT.glob("*.*"), *OUT.glob("pixels/*.png")]:
        old.unlink()
    (OUT / "pixels").mkdir(exist_ok=True)
    for make in (jpegs, pngs, webps, bmps, tiffs, gifs):
        make()
    lines = ",\n".join("  " + json.dumps(row, sort_keys=True) for row in ROWS)
    (OUT / "manifest.json").write_text("[\n" + lines + "\n]\n")
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    print(f"{len(ROWS)} files, {sum(row['expect'] == 'refused' for row in ROWS)} refused, {size} bytes")


# Files that were cut off.
CUT_OFF = r"jpeg-.*-cut"

# Kinds that are refused, by a pattern of the file's name: what the message calls them, and why.
KINDS = {
    r"jpeg-.*arithmetic": ("arithmetic coding", "arithmetic coding"),
    r"jpeg-cmyk-plain": ("CMYK without an Adobe marker", "inks without an Adobe marker: 0 may be ink or paper"),
    r"jpeg-12bit": ("other than 8 bits a sample", "12 bits a sample"),
    r"jpeg-lossless": ("lossless coding", "the lossless process"),
    r"tiff-.*tiles-separate": ("tiles of separate planes", "tiles of separate planes"),
    r"tiff-zstd-": ("ZSTD compression", "compression that is not supported"),
    r"tiff-lzma-": ("LZMA compression", "compression that is not supported"),
    r"tiff-bits-g3": ("CCITT group 3", "CCITT group 3"),
    r"tiff-grey2": ("grey of 2 bits", "grey of 2 bits"),
    r"tiff-grey4": ("grey of 4 bits", "grey of 4 bits"),
    r"tiff-(grey|rgb)32": ("whole numbers of 32 bits", "whole numbers of 32 bits"),
    r"tiff-rgb-float16": ("RGB in floats of 16 bits", "floats of 16 bits"),
    r"tiff-grey-float32": ("grey in floats of 32 bits", "grey in floats"),
    r"tiff-rgb8-signed": ("RGB in signed numbers of 8 bits", "signed numbers"),
    r"tiff-rgbx.*-lzw-unspecified": ("a predictor over undeclared channels", "a predictor over undeclared channels"),
    r"tiff-greyalpha8": ("grey with more channels", "grey with opacity"),
    r"tiff-cmyk8-planes": ("CMYK in separate planes", "inks in planes"),
    r"tiff-cmyk8-alpha": ("CMYK with opacity", "inks with opacity"),
    r"tiff-(lab|lab8)\.": ("Lab colours", "a colour space that is not supported"),
    r"tiff-(ycbcr|tiffcp-jpeg-ycbcr)\.": ("YCbCr colours", "a colour space that is not supported"),
    r"tiff-palette\d\.": ("a palette", "a palette"),
    r"tiff-tiffcp-fill-lsb": ("bits in reversed order", "bits in reversed order"),
}

if __name__ == "__main__":
    main()
