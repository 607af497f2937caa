#!/usr/bin/env python3
"""Loads a server with good and bad requests at once, and fails where it loses a job, leaks memory or gets slow.

usage: load_test.py PROGRAM [--seconds 300] [--connections 200] [--health-ms 50] [--photo examples/scenes/scene.png]

Starts `PROGRAM serve`. Each connection sends requests one after the other, drawn at random from the table below: edits by
both APIs, reads, and what a broken or hostile client sends. A further client asks for /health every 50 ms. Needs Linux
and Python 3.9; nothing beyond its standard library.
"""

import argparse
import asyncio
import collections
import json
import random
import re
import statistics
import struct
import subprocess
import sys
import time
import zlib

INSTRUCTION = "make the red car blue"
counts = collections.Counter()
unexpected = collections.Counter()
accepted = ended = 0


class Failed(Exception):
    pass


async def connect(server):
    return await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 24)


def head(server, method, path, headers, length):
    lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
    if not any(name.lower() == "host" for name in headers):
        lines.append(f"Host: 127.0.0.1:{server.port}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_head(reader):
    line = await reader.readline()
    if not line:
        raise Failed("closed without an answer")
    status = int(line.split()[1])
    headers = {}
    while (line := (await reader.readline()).strip()) :
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def body_of(reader, headers):
    if headers.get("transfer-encoding") != "chunked":
        return await reader.read()
    parts = []
    while (size := int((await reader.readline()).strip() or b"0", 16)) :
        parts.append(await reader.readexactly(size))
        await reader.readline()
    return b"".join(parts)


async def ask(server, method, path, body=b"", headers=None):
    headers = dict(headers or {})
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    reader, writer = await connect(server)
    try:
        writer.write(head(server, method, path, headers, len(body) if method != "GET" else None) + body)
        try:
            await writer.drain()
        except ConnectionError:
            pass  # A refused body: the answer is there.
        status, headers = await read_head(reader)
        return status, headers, await body_of(reader, headers)
    finally:
        writer.close()


def form(server, **texts):
    edge = "edge-of-a-part"
    parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode() for name, text in texts.items()]
    parts.append(f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode() + server.photo + b"\r\n")
    return b"".join(parts) + f"--{edge}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={edge}"}


def note(kind, status, expected):
    counts[kind, status] += 1
    if status not in expected:
        unexpected[kind, status] += 1


async def edit_by_page(server, steps=2, leave=False, stop=False):
    """Upload, edit, follow the events, fetch, delete."""
    global accepted, ended
    status, _, body = await ask(server, "POST", "/api/photos?name=a.png", server.photo)
    note("upload", status, (201, 429))
    if status != 201:
        return
    photo = json.loads(body)["id"]
    request = {"photo": photo, "instruction": INSTRUCTION, "options": {"steps": steps}}
    status, headers, body = await ask(server, "POST", "/api/edits", request)
    # Under pressure the photo may have made room for another one.
    note("edit", status, (202, 404, 429))
    if status == 429 and int(headers["retry-after"]) < 1:
        raise Failed("429 without a time to come back")
    if status != 202:
        return
    accepted += 1
    edit = json.loads(body)["id"]
    if leave:
        status, _, _ = await ask(server, "DELETE", f"/api/photos/{photo}")
        note("delete", status, (204,))
        ended += 1
        return
    reader, writer = await connect(server)
    try:
        writer.write(head(server, "GET", f"/api/edits/{edit}/events", {}, None))
        status, headers = await read_head(reader)
        note("events", status, (200,))
        if stop:
            status, _, _ = await ask(server, "POST", f"/api/edits/{edit}/cancel")
            note("cancel", status, (202,))
        last = re.findall(rb"event: ?(\w+)", await body_of(reader, headers))[-1].decode()
    finally:
        writer.close()
    if last not in ("done", "stopped"):
        raise Failed(f"the last event is {last}")
    if last == "stopped" and not stop:
        raise Failed("an edit stopped by itself")
    ended += 1
    if last == "done":
        status, _, body = await ask(server, "GET", f"/api/edits/{edit}/result")
        note("result", status, (200,))
        status, _, _ = await ask(server, "POST", "/api/maps", {"edit": edit, "options": {"hold": "0.3"}})
        note("maps", status, (200,))
    status, _, _ = await ask(server, "DELETE", f"/api/photos/{photo}")
    note("delete", status, (204, 404))


async def stop_by_page(server):
    await edit_by_page(server, steps=100, stop=True)


async def leave_by_page(server):
    await edit_by_page(server, steps=100, leave=True)


async def edit_as_openai(server):
    body, headers = form(server, prompt=INSTRUCTION)
    status, _, _ = await ask(server, "POST", "/v1/images/edits", body, headers)
    note("openai edit", status, (200, 429))


async def gone_in_the_middle(server):
    body, headers = form(server, prompt=INSTRUCTION, steps="100", stream=random.choice(("true", "false")))
    reader, writer = await connect(server)
    writer.write(head(server, "POST", "/v1/images/edits", headers, len(body)) + body)
    await writer.drain()
    await asyncio.sleep(random.random())
    writer.transport.abort()
    counts["gone in the middle", 0] += 1


async def read_page(server):
    path = random.choice(("/", "/app.js", "/style.css", "/api/model", "/api/examples", "/api/examples/scene", "/metrics", "/v1/models", "/api/openapi.json"))
    status, _, _ = await ask(server, "GET", path)
    note("read", status, (200,))


async def plain_mistake(server):
    """Requests that are refused, each with its status."""
    bad = "x" * 22
    cases = (
        ("GET", f"/api/edits/{bad}", b"", {}, 404),
        ("GET", "/../../etc/passwd", b"", {}, 404),
        ("POST", "/api/edits", b"{", {"Content-Type": "application/json"}, 400),
        ("POST", "/api/edits", {"photo": bad, "x": 1}, {}, 400),
        ("POST", "/api/edits", b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        ("POST", "/api/edits", b"x", {"Content-Type": "text/plain"}, 415),
        ("POST", "/api/photos", b"no photo", {}, 400),
        ("POST", "/api/photos", server.bomb, {}, 413),
        ("POST", "/api/photos", server.deep, {}, 413),
        ("GET", "/api/model", b"", {"Host": "rebound.example"}, 421),
        ("POST", "/api/photos", server.photo, {"Origin": "http://evil.example"}, 403),
        ("POST", "/api/photos", server.photo, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/v1/images/edits", b"--x", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        ("PUT", "/api/photos", b"", {}, 405),
    )
    method, path, body, headers, expected = random.choice(cases)
    status, _, answer = await ask(server, method, path, body, headers)
    note("mistake", status, (expected,))
    json.loads(answer)["error"]["message"]


async def aborted_upload(server):
    reader, writer = await connect(server)
    writer.write(head(server, "POST", "/api/photos", {}, 10_000_000) + b"x" * random.randrange(100_000))
    await asyncio.sleep(0.2 * random.random())
    writer.transport.abort()
    counts["aborted upload", 0] += 1


async def slow_body(server):
    reader, writer = await connect(server)
    try:
        writer.write(head(server, "POST", "/api/photos", {}, 10_000) + b"x")
        status, _ = await read_head(reader)
        note("slow body", status, (408,))
    finally:
        writer.close()


async def garbage(server):
    reader, writer = await connect(server)
    try:
        writer.write(random.choice((b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n", b"A" * 50_000)))
        await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        pass
    finally:
        writer.close()
    counts["garbage", 0] += 1


TABLE = (
    (edit_by_page, 8), (stop_by_page, 4), (leave_by_page, 4), (edit_as_openai, 6), (gone_in_the_middle, 4), (read_page, 20),
    (plain_mistake, 20), (aborted_upload, 6), (slow_body, 2), (garbage, 3),
)


async def client(server, until):
    kinds, weights = zip(*TABLE)
    while time.monotonic() < until:
        kind = random.choices(kinds, weights)[0]
        try:
            await kind(server)
        except (Failed, OSError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
            unexpected[kind.__name__, f"{type(error).__name__}: {error}"] += 1
        await asyncio.sleep(random.random())


async def health(server, until, seconds):
    while time.monotonic() < until:
        start = time.perf_counter()
        status, _, _ = await ask(server, "GET", "/health")
        seconds.append((time.perf_counter() - start, status))
        await asyncio.sleep(0.05)


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) / 1024


async def memory(server, until, megabytes):
    while time.monotonic() < until:
        megabytes.append(resident(server.pid))
        await asyncio.sleep(1)


def png(width, height, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Server:
    def __init__(self, program, photo):
        command = [program, "serve", "--port", "0", "--log", "off", "--keep", "1", "--max-kept", "256", "--max-megapixels", "16"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)/", self.process.stdout.readline())[1])
        self.pid = self.process.pid
        with open(photo, "rb") as file:
            self.photo = file.read()
        # One says that it is huge, the other is: 300 MB of zeros in 300 KB.
        self.bomb = png(60_000, 60_000)
        self.deep = png(10_000, 10_000, bytes(300_010_000))


async def metrics(server):
    _, _, body = await ask(server, "GET", "/metrics")
    lines = (line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


async def run(server, options):
    # What the first edits allocate is no leak.
    for _ in range(20):
        await edit_by_page(server)
    before = resident(server.pid)
    until = time.monotonic() + options.seconds
    times, megabytes = [], []
    clients = [client(server, until) for _ in range(options.connections)]
    await asyncio.gather(health(server, until, times), memory(server, until, megabytes), *clients)
    for _ in range(600):
        after = await metrics(server)
        if after["editmgt_queue"] == 0 and after["editmgt_connections"] <= 1:
            break
        await asyncio.sleep(0.1)
    return before, times, megabytes, after


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--health-ms", type=float, default=50)
    parser.add_argument("--photo", default="examples/scenes/scene.png")
    options = parser.parse_args()
    server = Server(options.program, options.photo)
    try:
        before, times, megabytes, after = asyncio.run(run(server, options))
        final = resident(server.pid)
    finally:
        server.process.terminate()
        status = server.process.wait(60)
    milliseconds = sorted(1000 * seconds for seconds, _ in times)
    p99 = milliseconds[int(0.99 * len(milliseconds))]
    requests = sum(counts.values())
    edits = {name: after.get(f'editmgt_edits_total{{status="{name}"}}', 0) for name in ("done", "stopped", "failed")}
    thirds = [statistics.median(megabytes[i * len(megabytes) // 3 : (i + 1) * len(megabytes) // 3]) for i in range(3)]
    print(f"{requests} requests in {options.seconds:.0f} s on {options.connections} connections:")
    for kind in sorted({kind for kind, _ in counts}):
        print(f"  {kind:20}", ", ".join(f"{status or 'sent'}: {count}" for (other, status), count in sorted(counts.items()) if other == kind))
    print(f"edits of the page: {accepted} accepted, {ended} ended; the server counts {edits}")
    print(f"/health: {len(times)} times, median {statistics.median(milliseconds):.1f} ms, p99 {p99:.1f} ms, longest {milliseconds[-1]:.0f} ms")
    print(f"resident memory: {before:.0f} MB before, medians of the thirds {thirds[0]:.0f}, {thirds[1]:.0f}, {thirds[2]:.0f} MB, "
          f"most {max(megabytes):.0f} MB, {final:.0f} MB at the end")
    faults = [f"unexpected: {kind} {what}: {count}" for (kind, what), count in unexpected.items()]
    if accepted != ended:
        faults.append(f"{accepted - ended} edits were lost")
    if edits["failed"]:
        faults.append(f"{edits['failed']} edits failed")
    if after["editmgt_queue"] or after["editmgt_connections"] > 1:
        faults.append(f"queue {after['editmgt_queue']}, connections {after['editmgt_connections']} after the end")
    if any(status != 200 for _, status in times):
        faults.append("/health was not 200")
    if p99 > options.health_ms:
        faults.append(f"p99 of /health is {p99:.1f} ms, the limit is {options.health_ms} ms")
    if thirds[2] > 1.15 * thirds[1] + 10:
        faults.append(f"memory grows: {thirds[1]:.0f} MB, then {thirds[2]:.0f} MB")
    if status != 0:
        faults.append(f"the server ended with {status}")
    print("\n".join(faults) or "no fault")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
