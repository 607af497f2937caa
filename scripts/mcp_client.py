"""Tries `editmgt mcp` and `/mcp` of `editmgt serve` with the official SDK of the Model Context Protocol.

    python -m venv VENV && VENV/bin/pip install mcp
    VENV/bin/python scripts/mcp_client.py [PROGRAM]        [default: target/debug/editmgt]

Over standard input and output and over HTTP, with the handshake of older protocols and with the newest protocol that
client and server share: lists the tools, edits a scene with progress, reads the record of the result, is refused a path
outside of the folder and a word that the model doesn't know, and cancels a long edit. Prints a line for each check, and
exits with 1 at the first that fails. docs/agents.md has an output.
"""

import asyncio
import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

ROOT = Path(__file__).resolve().parent.parent
SCENE = ROOT / "editmgt-server/scenes/scene.png"
INSTRUCTION = "make the red car blue"
TOKEN = "0123456789abcdef0123456789abcdef"


def check(what, holds, details=""):
    if not holds:
        sys.exit(f"FAILED: {what}: {details}")
    print(f"  {what}")


def text(result):
    return "".join(block.text for block in result.content if block.type == "text")


def shown(text, photo, with_files):
    """A text with the temporary folder's name taken out."""
    return text.replace(str(Path(photo).parent), "DIR") if with_files else text


async def common(client, photo, with_files):
    """Checks for each way to reach the tools; `photo` is a path or base64."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    names = ["describe_models", "edit_image", "generate_image", "show_record"]
    check("lists " + ", ".join(names), sorted(tools) == names, sorted(tools))

    described = await client.call_tool("describe_models")
    model = described.structured_content["models"][0]
    check("describes the model and its words", "red" in model["known"]["words"], model)

    steps = []

    async def progress(done, total, message):
        steps.append((done, total))

    given = {"photo": photo, "instruction": INSTRUCTION, "options": {"seed": 7, "steps": 4}}
    result = await client.call_tool("edit_image", given, progress_callback=progress)
    images = [block for block in result.content if block.type == "image"]
    check("edits and answers with an image", not result.is_error and len(images) == 1, text(result))
    check(f"tells of progress: {steps}", (4.0, 4.0) in steps and steps == sorted(steps), steps)
    print("    " + shown(text(result), photo, with_files))
    made = "scene-edited.png" if with_files else images[0].data
    record = await client.call_tool("show_record", {"image": made})
    seed = record.structured_content["settings"]["seed"]
    check("shows the record of the result", seed == 7, record.structured_content)

    outside = await client.call_tool("edit_image", {**given, "photo": "/etc/hostname"})
    check("refuses another path:", outside.is_error, text(outside))
    print("    " + shown(text(outside), photo, with_files))
    unknown = await client.call_tool("edit_image", {**given, "instruction": "paint a zebra"})
    check("names the words that the model knows", unknown.is_error and "car" in text(unknown), text(unknown))
    missing = await client.call_tool("generate_image", {"prompt": "a red car"})
    check("refuses to generate with a model that only edits", missing.is_error, text(missing))


async def cancelled(client, photo, has_stopped):
    begun = asyncio.Event()

    async def progress(done, total, message):
        if done >= 1:
            begun.set()

    given = {"photo": photo, "instruction": INSTRUCTION, "options": {"steps": 256}}
    call = asyncio.create_task(client.call_tool("edit_image", given, progress_callback=progress))
    await asyncio.wait_for(begun.wait(), 60)
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        pass
    start = time.monotonic()
    while not await has_stopped():
        if time.monotonic() - start > 30:
            sys.exit("FAILED: an edit that was cancelled runs on")
        await asyncio.sleep(0.1)
    check(f"stops an edit that was cancelled, within {time.monotonic() - start:.1f} s", True)


async def over_stdio(program, mode):
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "scene.png"
        shutil.copy(SCENE, photo)
        parameters = StdioServerParameters(command=program, args=["mcp", "--root", folder, "--log", "off"])
        async with Client(parameters, mode=mode) as client:
            await common(client, str(photo), True)

            async def has_stopped():
                # The next edit runs when the device is free.
                given = {"photo": str(photo), "instruction": INSTRUCTION, "options": {"steps": 1}}
                return not (await client.call_tool("edit_image", given)).is_error

            await cancelled(client, str(photo), has_stopped)
        files = sorted(os.listdir(folder))
        expected = ["scene-edited-2.png", "scene-edited.png", "scene.png"]
        check("leaves " + ", ".join(expected), files == expected, files)


async def over_http(program, mode):
    environment = dict(os.environ, EDITMGT_TOKEN=TOKEN)
    server = subprocess.Popen(
        [program, "serve", "--port", "0", "--log", "off"], stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        url = server.stdout.readline().strip().rstrip("/")
        bearer = {"Authorization": f"Bearer {TOKEN}"}

        async def has_stopped():
            request = urllib.request.Request(url + "/metrics", headers=bearer)
            metrics = urllib.request.urlopen(request).read().decode()
            return 'editmgt_edits_total{status="stopped"} 1' in metrics

        async with httpx2.AsyncClient(headers=bearer, timeout=120) as http:
            transport = streamable_http_client(url + "/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                photo = base64.b64encode(SCENE.read_bytes()).decode()
                await common(client, photo, False)
                await cancelled(client, photo, has_stopped)
        try:
            urllib.request.urlopen(url + "/mcp")
            check("wants the token", False)
        except urllib.error.HTTPError as error:
            check("wants the token", error.code == 401, error.code)
    finally:
        server.terminate()
        check("ends by itself", server.wait(30) == 0)


def main():
    program = str(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/editmgt").resolve())
    for name, over in [("stdio", over_stdio), ("HTTP", over_http)]:
        for mode in ["legacy", "auto"]:
            print(f"{name}, {mode}:")
            asyncio.run(over(program, mode))
    print("all checks passed")


if __name__ == "__main__":
    main()
