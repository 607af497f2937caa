#!/bin/sh
# Runs every fuzz target, or those that are named, for MINUTES each, with the runner on stable Rust.
# usage: scripts/fuzz.sh MINUTES [TARGET...]
# Environment: SEED (default: seconds since 1970), CRASHES (default: fuzz/crashes).
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
minutes=$1
shift
cargo build --quiet -p editmgt-fuzz
runner=${CARGO_TARGET_DIR:-target}/debug/editmgt-fuzz
[ $# -ge 1 ] || set -- $("$runner" list)
failed=0
for target; do
    # 16 GiB of address space: the runner itself looks at resident memory, 1 GiB at most.
    (
        ulimit -v 16777216
        exec nice -n 10 "$runner" "$target" --seconds $((minutes * 60)) \
            --inputs 1000000000000 --seed "${SEED:-$(date +%s)}" --crashes "${CRASHES:-fuzz/crashes}"
    ) || { echo "$target: failed" >&2; failed=1; }
done
exit $failed
