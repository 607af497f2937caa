"""Writes a configuration of schemathesis with the ids of a photo, a mask and edits that it makes on the server.

usage: operations.py URL SCENE.png > schemathesis.toml        (EDITMGT_TOKEN: the server's token, where it has one)
"""

import json
import os
import sys
import time
import urllib.request

url, scene = sys.argv[1].rstrip("/"), open(sys.argv[2], "rb").read()
token = os.environ.get("EDITMGT_TOKEN")


def ask(method, path, body=None, kind="application/json"):
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": kind}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url + path, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def wait(edit):
    while edit["status"] in ("queued", "running"):
        time.sleep(0.05)
        edit = ask("GET", f"/api/edits/{edit['id']}")
    assert edit["status"] == "done", edit
    return edit["id"]


photo = ask("POST", "/api/photos?name=scene.png", scene, "image/png")["id"]
removed = ask("POST", "/api/photos", scene, "image/png")["id"]
mask = ask("POST", f"/api/photos/{photo}/masks", scene, "image/png")["id"]
options = {"hold": "mask+auto", "steps": 2}
body = {"photo": photo, "instruction": "make the red car blue", "options": options, "mask": mask}
edit = wait(ask("POST", "/api/edits", body))

IDS = {
    "DELETE /api/photos/{id}": removed,
    "GET /api/photos/{id}": photo,
    "GET /api/photos/{id}/image": photo,
    "POST /api/photos/{id}/masks": photo,
    "GET /api/masks/{id}": mask,
    "GET /api/examples/{id}": "scene",
    "GET /v1/models/{id}": "embedded",
    "GET /api/edits/{id}": edit,
    "POST /api/edits/{id}/cancel": edit,
    **{f"GET /api/edits/{{id}}/{what}": edit for what in ("events", "result", "preview", "map", "mask", "record", "report", "code")},
}
for operation, value in IDS.items():
    print(f'[[operations]]\ninclude-name = "{operation}"\nparameters = {{ "path.id" = "{value}" }}')
    if operation.endswith("/masks"):
        print("checks.positive_data_acceptance.enabled = false")
# A schema can't say which bytes are an image, which words a model knows, and what its options take.
for path in ("api/photos", "api/edits", "api/plan", "api/maps", "v1/images/edits", "v1/images/generations"):
    operation = f"POST /{path}"
    print(f'[[operations]]\ninclude-name = "{operation}"\nchecks.positive_data_acceptance.enabled = false')
