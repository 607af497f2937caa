#!/usr/bin/env bash
# Packages every crate that is published, compiles the packaged files, tests included, and edits a photo in a crate
# that depends on them by path (tests/empty_crate). Needs no network once the dependencies are downloaded.
#
# All packages are compiled in one workspace, with the profiles and the Cargo.lock of this one, so that the
# dependencies have the same features and nothing below our crates is built again. `cargo package --workspace`
# compiles each crate by itself, which builds burn once for each set of features; run it before a release.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
outside=$CARGO_TARGET_DIR/outside
# What the public registry accepts.
largest=$((10 * 1024 * 1024))

# "NAME PATH" of every crate of the workspace.
crates() {
    cargo tree --workspace --offline --depth 0 --edges normal --prefix none --format '{p}' |
        sed -n 's/^\([^ ]*\) v[^ ]* (\(.*\))$/\1 \2/p' | sort -u
}

# Not a member of the workspace, so `cargo fmt --all` doesn't see it.
rustfmt --check --edition 2024 tests/empty_crate/src/lib.rs tests/empty_crate/tests/edit.rs

published=() excluded=()
while read -r name path; do
    if grep -q '^publish = false' "$path/Cargo.toml"; then
        excluded+=(--exclude "$name")
    else
        published+=("$name")
    fi
done < <(crates)
[[ ${#published[@]} -gt 0 ]]

rm -rf "$CARGO_TARGET_DIR"/package/*.crate "$outside"
cargo package --workspace "${excluded[@]}" --offline --locked --no-verify --allow-dirty --quiet
mkdir -p "$outside"
patches=""
for name in "${published[@]}"; do
    packages=("$CARGO_TARGET_DIR/package/$name"-[0-9]*.crate)
    [[ ${#packages[@]} == 1 && -e ${packages[0]} ]] || { echo "$name: no package" >&2; exit 1; }
    size=$(wc -c <"${packages[0]}")
    printf '%9d bytes  %s\n' "$size" "$name"
    [[ $size -le $largest ]] || { echo "$name: larger than $largest bytes" >&2; exit 1; }
    mkdir "$outside/$name"
    # -m: files in packages carry one old date, which cargo takes for unchanged.
    tar xzmf "${packages[0]}" -C "$outside/$name" --strip-components 1
    for licence in LICENSE-APACHE LICENSE-MIT README.md; do
        [[ -s $outside/$name/$licence ]] || { echo "$name: no $licence in the package" >&2; exit 1; }
    done
    patches+="$name = { path = \"$name\" }"$'\n'
done

cp -r tests/empty_crate "$outside/empty-crate"
cp examples/scenes/scene.png "$outside/empty-crate/"
cp Cargo.lock "$outside/"
{
    printf '[workspace]\nresolver = "3"\nmembers = ["*"]\n\n[patch.crates-io]\n%s\n' "$patches"
    # The profiles of this workspace, so that dependencies are those that are built.
    awk '/^\[/ { copied = /^\[profile\./ } copied' Cargo.toml
} >"$outside/Cargo.toml"

cd "$outside"
# One edit doesn't pay for optimising our crates. Dependencies keep their profile.
quick=(
    --config profile.dev.opt-level=0 --config profile.dev.debug=false
    --config profile.dev.package.editmgt-kernels.opt-level=1
)
cargo check --workspace --all-targets --offline "${quick[@]}"
cargo test --workspace --offline --test edit "${quick[@]}"
