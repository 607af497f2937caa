#!/bin/bash
# Runs `editmgt batch` with photos and results in S3 as moto serves it, kills a shard in its middle, runs it again, and
# checks that every job was done once.
#
#     python -m venv VENV && VENV/bin/pip install 'moto[server,s3]'
#     PATH=VENV/bin:$PATH scripts/moto_batch.sh [PROGRAM]        [default: target/debug/editmgt]
#
# The program needs the feature `cloud`: cargo build -p editmgt-cli --features cloud

set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
program=$(realpath "${1:-$root/target/debug/editmgt}")
work=$(mktemp -d)
port=${PORT:-15987}
moto_server -p "$port" >"$work/moto.log" 2>&1 &
moto=$!
finish() {
    kill "$moto" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT

export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=moto-key AWS_SECRET_ACCESS_KEY=moto-secret-42
export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
# boto3 comes with moto.
store() {
    python - "$@" <<'PYTHON'
import sys

import boto3

s3 = boto3.client("s3")
command, *args = sys.argv[1:]
if command == "create":
    s3.create_bucket(Bucket=args[0])
elif command == "put":
    s3.upload_file(args[0], args[1], args[2])
elif command == "list":
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=args[0], Prefix=args[1])
    for page in pages:
        for item in page.get("Contents", []):
            print(item["Key"], item["ETag"])
PYTHON
}

for _ in $(seq 100); do
    if store create photos 2>/dev/null; then break; fi
    sleep 0.2
done
store create results
store put "$root/editmgt-server/scenes/scene.png" photos in/scene.png
for i in $(seq 12); do
    printf '{"photo": "scene.png", "instruction": "make the red circle blue", "seed": %d, "steps": 40, "name": "job-%02d"}\n' "$i" "$i"
done >"$work/jobs.jsonl"
store put "$work/jobs.jsonl" photos in/jobs.jsonl

shard() {
    JOB_COMPLETION_INDEX=$1 JOB_PARALLELISM=2 exec "$program" batch s3://photos/in/jobs.jsonl --out s3://results/run \
        --shard auto --resume --quiet
}

echo "== 12 jobs, 2 shards; the second is killed in its middle"
(shard 0) | tail -n1 &
first=$!
(shard 1) >"$work/killed" &
second=$!
while [ "$(wc -l <"$work/killed")" -lt 2 ]; do sleep 0.05; done
kill -KILL "$second"
wait "$first"
store list results run/ >"$work/before"
echo "results after the kill: $(grep -c png "$work/before")"

echo "== both again"
(shard 0) | tail -n1
(shard 1) | tail -n1
store list results run/ >"$work/after"
echo "results: $(grep -c png "$work/after"), entries: $(grep -c json "$work/after")"
[ "$(grep -c png "$work/after")" -eq 12 ]
[ "$(grep -c json "$work/after")" -eq 12 ]
# What was there is untouched, down to its ETag.
[ -z "$(comm -23 <(sort "$work/before") <(sort "$work/after"))" ]

echo "== a missing bucket"
if "$program" batch s3://nowhere/jobs.jsonl --out s3://results/run -q 2>"$work/error"; then exit 1; fi
cat "$work/error"
if grep -q moto-secret "$work/error"; then exit 1; fi
echo "== every job was done once"
