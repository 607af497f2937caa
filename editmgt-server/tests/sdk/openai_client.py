"""The official Python SDK of OpenAI's API against a server with the embedded model.

usage: openai_client.py URL SCENE.png
"""

import base64
import io
import struct
import sys
import zlib

import openai

url, scene = sys.argv[1].rstrip("/"), sys.argv[2]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="any text", max_retries=0)
INSTRUCTION = "make the red car blue"
checks = 0


def check(condition, message):
    global checks
    checks += 1
    assert condition, message


def size_of(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n", png[:8]
    return struct.unpack(">II", png[16:24])


def png(width, height, pixel):
    """An RGBA image; `pixel(x, y)` gives four bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def refused(kind, code, param, call):
    try:
        call()
    except kind as error:
        check((error.code, error.param) == (code, param), (error.code, error.param, error.message))
        check(error.type and error.message, error)
    else:
        raise AssertionError(f"expected {kind.__name__} {code}")


def edit(**options):
    with open(scene, "rb") as image:
        return client.images.edit(**{"image": image, "prompt": INSTRUCTION, **options})


# Models.
names = [model.id for model in client.models.list()]
check(names == ["embedded"], names)
check(client.models.retrieve("embedded").object == "model", "a model")
refused(openai.NotFoundError, "model_not_found", "model", lambda: client.models.retrieve("gpt-image-1"))

# An edit, with what is not OpenAI's in extra_body.
result = edit(model="embedded", user="someone", quality="high", extra_body={"seed": 7, "hold": "auto"})
image = base64.b64decode(result.data[0].b64_json)
check(size_of(image) == (128, 128), size_of(image))
check(result.output_format == "png" and result.size == "128x128", result)
check(result.usage.total_tokens == 512, result.usage)
check(result.data[0].model_extra["editmgt"]["seed"] == 7, result.data[0].model_extra)
again = edit(extra_body={"seed": 7, "hold": "auto"})
check(base64.b64decode(again.data[0].b64_json) == image, "the same seed gives the same file")

# Several images at once, a size, a format, a list of one image, an address.
result = edit(n=2, size="160x160", output_format="jpeg", output_compression=60)
check(len(result.data) == 2, result)
check(all(base64.b64decode(one.b64_json)[:2] == b"\xff\xd8" for one in result.data), "JPEG")
with open(scene, "rb") as one:
    result = client.images.edit(image=[one], prompt=INSTRUCTION, response_format="url")
import urllib.request  # noqa: E402

with urllib.request.urlopen(result.data[0].url) as answer:
    check(size_of(answer.read()) == (128, 128), result.data[0].url)

# A mask: what is transparent may change, the rest stays.
mask = png(128, 128, lambda x, y: (0, 0, 0, 0 if x < 64 else 255))
result = edit(prompt="change the background to a beach", mask=("mask.png", io.BytesIO(mask), "image/png"))
details = result.data[0].model_extra["editmgt"]
check(0.5 <= details["pixels_kept"] < 1, details)

# Inpainting and outpainting by extra_body.
result = edit(
    prompt="a green cat",
    mask=("mask.png", io.BytesIO(mask), "image/png"),
    extra_body={"task": "inpaint", "steps": 2},
)
check(result.data[0].model_extra["editmgt"]["pixels_kept"] >= 0.5, result.data[0].model_extra)
result = edit(prompt="a green cat", extra_body={"task": "outpaint:16,0,0,0", "steps": 2})
check(result.size == "144x128", result.size)

# A stream of partial images.
events = list(edit(stream=True, partial_images=2, extra_body={"steps": 3}))
names = [event.type for event in events]
check(names[-1] == "image_edit.completed" and names[0] == "image_edit.partial_image", names)
check(events[0].partial_image_index == 0 and size_of(base64.b64decode(events[0].b64_json)) == (128, 128), events[0])
check(size_of(base64.b64decode(events[-1].b64_json)) == (128, 128), events[-1])
check(events[-1].usage.total_tokens == 512, events[-1].usage)

# A stream that is left stops its edit; the next request works.
with edit(stream=True, partial_images=1, extra_body={"steps": 200}) as stream:
    next(iter(stream))
check(edit().data[0].b64_json, "the next edit")

# Errors.
refused(openai.BadRequestError, "unknown_words", "instruction", lambda: edit(prompt="paint a zebra"))
refused(openai.BadRequestError, "option", "n", lambda: edit(n=99))
refused(openai.BadRequestError, "option", "size", lambda: edit(size="1536x1024"))
refused(openai.BadRequestError, "option", "steps", lambda: edit(extra_body={"steps": 0}))
refused(openai.BadRequestError, "unknown_key", "colour", lambda: edit(extra_body={"colour": "red"}))
refused(openai.BadRequestError, "option", "background", lambda: edit(background="transparent"))
refused(openai.NotFoundError, "model_not_found", "model", lambda: edit(model="gpt-image-1"))
refused(openai.BadRequestError, "photo", "photo", lambda: edit(image=("x.png", io.BytesIO(b"none"), "image/png")))
two = [("a.png", png(8, 8, lambda x, y: (1, 2, 3, 255)), "image/png")] * 2
refused(openai.BadRequestError, "form", "image", lambda: edit(image=two))

# Images from text: the embedded model was not trained for them, and says so.
refused(openai.BadRequestError, "not_trained", "model", lambda: client.images.generate(prompt="a red car"))
anyway = {"anyway": True, "steps": 2}
result = client.images.generate(prompt="a red car", n=2, size="80x64", extra_body=anyway)
check([size_of(base64.b64decode(one.b64_json)) for one in result.data] == [(80, 64)] * 2, "two images")
events = list(client.images.generate(prompt="a red car", stream=True, partial_images=1, extra_body=anyway))
names = [event.type for event in events]
check(names == ["image_generation.partial_image", "image_generation.completed"], names)

print(f"openai {openai.__version__} for Python: {checks} checks passed")
