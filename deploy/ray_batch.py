"""Edits the photos of a data set with Ray Data, on as many machines as the cluster has.

    pip install "ray[data]"
    python deploy/ray_batch.py s3://photos/in s3://results/out "make the cat black" --model models/editmgt

Each actor runs `editmgt serve` on its own machine, on the loopback with a token of its own, and sends it photos: the model
is loaded once for each actor. Ray restarts actors that die and repeats their blocks. Every photo becomes a row with its
path, the result as PNG bytes, or the reason of its failure; the rows are written as Parquet.

A file of jobs with options for each photo, and results that are skipped when they are there: use `editmgt batch` with
--shard (slurm-array.sh, kubernetes-batch.yaml). This script is for photos that are part of a larger pipeline of Ray's.
"""

import argparse
import json
import os
import secrets
import subprocess
import urllib.error
import urllib.request

# How long an edit may take, seconds.
PATIENCE = 1800


class Editor:
    """A server of this machine, and a client of it."""

    def __init__(self, program, options, instruction, settings):
        self.token = secrets.token_hex(24)
        self.instruction = instruction
        self.settings = settings
        environment = dict(os.environ, EDITMGT_TOKEN=self.token)
        self.server = subprocess.Popen(
            [program, "serve", "--port", "0", "--log", "off", *options],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        # The program prints its address when the model is loaded.
        self.url = self.server.stdout.readline().strip().rstrip("/")
        if not self.url.startswith("http://"):
            raise RuntimeError(f"{program} serve did not start; its messages are in this actor's log")

    def __del__(self):
        if getattr(self, "server", None):
            self.server.terminate()

    def request(self, method, path, body=None, kind="application/octet-stream"):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]["message"]) from None

    def edit(self, photo):
        """The edited photo as PNG; ValueError with the reason where it can't be edited."""
        photo_id = json.loads(self.request("POST", "/api/photos", photo))["id"]
        try:
            body = {"photo": photo_id, "instruction": self.instruction, "options": self.settings}
            body = json.dumps(body).encode()
            edit = json.loads(self.request("POST", "/api/edits", body, "application/json"))["id"]
            # The stream of events ends with the edit.
            self.request("GET", f"/api/edits/{edit}/events")
            state = json.loads(self.request("GET", f"/api/edits/{edit}"))
            if state["status"] != "done":
                raise ValueError((state["error"] or {}).get("message", state["status"]))
            return self.request("GET", f"/api/edits/{edit}/result")
        finally:
            self.request("DELETE", f"/api/photos/{photo_id}")

    def __call__(self, row):
        """A row of Ray Data: `bytes` and `path` become `path`, `result` and `error`."""
        try:
            return {"path": row["path"], "result": self.edit(row["bytes"]), "error": None}
        except ValueError as error:
            return {"path": row["path"], "result": None, "error": str(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("photos", help="folder or URL of photos")
    parser.add_argument("results", help="folder or URL for Parquet files")
    parser.add_argument("instruction")
    parser.add_argument("--model", help="folder of the model on every machine [default: the embedded one]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of an actor")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="such as seed=7")
    parser.add_argument("--program", default="editmgt")
    args = parser.parse_args()

    import ray

    options = ["--device", args.device] + (["--model", args.model] if args.model else [])
    settings = dict(pair.split("=", 1) for pair in args.set)
    photos = ray.data.read_binary_files(args.photos, include_paths=True)
    edited = photos.map(
        Editor,
        fn_constructor_args=(args.program, options, args.instruction, settings),
        concurrency=args.actors,
        num_gpus=args.gpus,
    )
    edited.write_parquet(args.results)


if __name__ == "__main__":
    main()
