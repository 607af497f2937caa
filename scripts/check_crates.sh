#!/usr/bin/env bash
# Checks every published crate by itself, as a crate that depends on it builds it, and prints a table.
# usage: scripts/check_crates.sh [CHECK...]
#   none      cargo check --no-default-features
#   targets   cargo check --all-targets: its tests and benches too, with what its dev-dependencies turn on
#   test      cargo test, with the default features
#   doc       cargo doc, with the default features and warnings as errors
#   FEATURE   cargo check with that feature only, where a crate has it: flex, ndarray, wgpu-plain, wgpu, vulkan,
#             metal, webgpu, cuda, embedded, …
# Default: none test doc, then flex ndarray wgpu vulkan metal webgpu cuda.
# Environment: CRATES, the crates to check (default: all); CARGO_TARGET_DIR, better not the one you work with, since
# each set of features builds burn anew (some minutes; all of them some hours on two cores).
set -euo pipefail
cd "$(dirname "$0")/.."
checks=("$@")
[[ $# -gt 0 ]] || checks=(none test doc flex ndarray wgpu vulkan metal webgpu cuda)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" CARGO_INCREMENTAL=0
# Without it the build of burn's CUDA backend downloads an LLVM bundle.
export DOCS_RS=1

# "NAME PATH" of every crate of the workspace.
crates() {
    cargo tree --workspace --depth 0 --edges normal --prefix none --format '{p}' |
        sed -n 's/^\([^ ]*\) v[^ ]* (\(.*\))$/\1 \2/p' | sort -u
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# outcome COMMAND…: "ok" or "FAILED", and the seconds it took.
outcome() {
    local start=$SECONDS
    if "$@" >"$log" 2>&1; then
        printf ' ok, %d s |' $((SECONDS - start))
    else
        printf ' FAILED |'
        sed 's/^/    /' "$log" >&2
        failed=1
    fi
}

printf '| crate |'
printf ' %s |' "${checks[@]}"
printf '\n|---|'
printf -- '---|%.0s' "${checks[@]}"
printf '\n'
while read -r name path; do
    grep -q '^publish = false' "$path/Cargo.toml" && continue
    [[ -z ${CRATES:-} || " $CRATES " == *" $name "* ]] || continue
    printf '| %s |' "$name"
    for check in "${checks[@]}"; do
        case $check in
            none) outcome cargo check --locked -p "$name" --no-default-features ;;
            targets) outcome cargo check --locked -p "$name" --all-targets ;;
            test) outcome cargo test --locked -p "$name" ;;
            doc) RUSTDOCFLAGS="-D warnings" outcome cargo doc --locked --no-deps -p "$name" ;;
            *)
                if grep -q "^$check = \[" "$path/Cargo.toml"; then
                    outcome cargo check --locked -p "$name" --no-default-features --features "$check"
                else
                    printf ' |'
                fi
                ;;
        esac
    done
    printf '\n'
done < <(crates)
exit $failed
