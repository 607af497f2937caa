#!/usr/bin/env bash
# Drives the page of `editmgt serve` in headless Chromium.
#
#   scripts/page.sh test [WORDS]   the steps of tests/page.mjs (those with WORDS in their name) against the server with the
#                                  embedded model, then the steps that need the mock server, then the time from
#                                  starting the server to the first edit
#   scripts/page.sh mock [WORDS]   the steps against the mock server only: no build
#   scripts/page.sh screenshots    makes docs/pictures/page-*.png anew
#
# Needs Node 20 or newer, npm and Chromium (CHROMIUM names another one than /usr/bin/chromium). playwright-core and
# axe-core are installed once, into a folder outside the project (NODE_FOLDER). EDITMGT names a program that is built
# already. Exit status 3: Node, npm or Chromium is missing, or npm's registry can't be reached.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-test}
words=(${2:+--only "$2"})
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
for needed in node npm "$CHROMIUM"; do
    if ! command -v "$needed" >/dev/null; then
        echo "page.sh: $needed is missing: nothing was tested" >&2
        exit 3
    fi
done

export NODE_FOLDER=${NODE_FOLDER:-${XDG_CACHE_HOME:-$HOME/.cache}/editmgt/node}
if [[ ! -e $NODE_FOLDER/node_modules/playwright-core || ! -e $NODE_FOLDER/node_modules/axe-core ]]; then
    mkdir -p "$NODE_FOLDER"
    if ! npm install --silent --no-save --no-audit --no-fund --prefix "$NODE_FOLDER" playwright-core@1 axe-core@4; then
        echo "page.sh: npm can't install playwright-core and axe-core: nothing was tested" >&2
        exit 3
    fi
fi

tests=editmgt-server/tests
if [[ $mode == mock ]]; then
    exec node $tests/page.mjs "${words[@]}"
fi

models=()
[[ $mode == test ]] && models=(--model embedded --model-name embedded --model embedded --model-name second)
# shellcheck source=scripts/server.sh
source scripts/server.sh
start_server "${models[@]}"

case $mode in
test)
    node $tests/page.mjs "$address" "${words[@]}"
    if [[ ${#words[@]} == 0 ]]; then
        node $tests/page.mjs --only 'waits its turn'
        node $tests/page.mjs --only 'asks for the token'
        node $tests/first-edit.mjs "$EDITMGT"
    fi
    ;;
screenshots)
    node $tests/screenshots.mjs "$address" docs/pictures
    ;;
*)
    echo "page.sh: expected test, mock or screenshots, got $mode" >&2
    exit 2
    ;;
esac
