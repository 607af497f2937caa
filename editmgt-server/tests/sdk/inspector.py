"""Tries `editmgt mcp` and `/mcp` of a server with the command line of the Model Context Protocol's inspector.

usage: inspector.py PROGRAM URL SCENE.png        (EDITMGT_TOKEN: the server's token; PATH has `mcp-inspector`)

Over standard input and output and over HTTP, with each protocol that the inspector can negotiate: the schemas of the
tools without a complaint (`--strict`), an edit whose image is a PNG, its record, mistakes that are told as such, and
many calls at once. Prints a line for each check, and exits with 1 at the first that fails.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

program, url, scene = sys.argv[1], sys.argv[2].rstrip("/"), Path(sys.argv[3])
INSTRUCTION = "make the red car blue"
TOOLS = ["describe_models", "edit_image", "generate_image", "show_record"]
IS_ERROR, NO_TOOL = 5, "tool_not_found"


def check(what, holds, details=""):
    if not holds:
        sys.exit(f"FAILED: {what}: {details}")
    print(f"  {what}", flush=True)


class Inspector:
    def __init__(self, target, era):
        self.target, self.era = target, era

    def run(self, *arguments):
        """Exit status, the object on standard output, and the text on standard error."""
        command = ["mcp-inspector", "--cli", *self.target, "--protocol-era", self.era, "--format", "json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr

    def call(self, tool, **given):
        status, answer, error = self.run("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(given))
        return status, (answer or {}).get("result"), error


def text(result):
    return "".join(block["text"] for block in result["content"] if block["type"] == "text")


def common(inspector, photo, made):
    """Checks for each way to reach the tools; `photo` is a path or base64, `made` the place of the result."""
    status, answer, error = inspector.run("--method", "tools/list", "--strict")
    names = sorted(tool["name"] for tool in answer["result"]["tools"])
    check("lists " + ", ".join(names), status == 0 and names == TOOLS, error)
    check("finds nothing to say of the schemas", "arning" not in error and " error" not in error, error)

    status, result, error = inspector.call("describe_models")
    words = result["structuredContent"]["models"][0]["known"]["words"]
    check("describes the model and its words", status == 0 and "red" in words, error)

    given = {"photo": photo, "instruction": INSTRUCTION, "options": {"seed": 7, "steps": 4}}
    status, result, error = inspector.call("edit_image", **given)
    images = [base64.b64decode(block["data"]) for block in result["content"] if block["type"] == "image"]
    check("edits and answers with a PNG", status == 0 and images[0].startswith(b"\x89PNG"), error)
    image = made or base64.b64encode(images[0]).decode()
    status, result, error = inspector.call("show_record", image=image)
    check("shows the record of the result", status == 0 and result["structuredContent"]["settings"]["seed"] == 7, error)

    for what, tool, given, named in [
        ("an unknown word", "edit_image", {**given, "instruction": "paint a zebra"}, "car"),
        ("an argument that is missing", "edit_image", {"photo": photo}, "instruction"),
        ("an argument of another type", "edit_image", {**given, "options": {"steps": "many"}}, "steps"),
        ("a file of the machine", "edit_image", {**given, "photo": "/etc/hostname"}, "photo"),
        ("an image from text", "generate_image", {"prompt": "a red car"}, "trained"),
    ]:
        status, result, error = inspector.call(tool, **given)
        check(f"refuses {what}", status == IS_ERROR and result["isError"] and named in text(result), (status, result, error))
    status, _, error = inspector.call("format_disk")
    check("knows no other tool", status == IS_ERROR and NO_TOOL in error, error)

    load = ["--load", "--load-requests", "40", "--load-concurrency", "8"]
    status, answer, error = inspector.run("--method", "tools/call", "--tool-name", "describe_models", *load)
    load = answer.get("result", answer)
    latency = load["latencyMs"]
    check(f"answers 40 calls, 8 at once: p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms", load["ok"] == 40, error)


bearer = f"Authorization: Bearer {os.environ['EDITMGT_TOKEN']}"
for era in ["legacy", "auto", "modern"]:
    print(f"stdio, {era}:")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(scene, folder)
        started = [program, "mcp", "--root", folder, "--log", "off"]
        common(Inspector(started, era), scene.name, f"{scene.stem}-edited.png")
        files = sorted(os.listdir(folder))
        expected = [f"{scene.stem}-edited.png", scene.name]
        check("leaves " + ", ".join(expected), files == expected, files)
    print(f"HTTP, {era}:")
    target = ["--transport", "http", "--server-url", f"{url}/mcp"]
    common(Inspector([*target, "--header", bearer], era), base64.b64encode(scene.read_bytes()).decode(), None)
    status, _, error = Inspector([*target, "--stored-auth-only"], era).run("--method", "tools/list")
    check("is refused without the token", status != 0 and "auth" in error.lower(), error)
print("all checks passed")
