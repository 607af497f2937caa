#!/usr/bin/env bash
# The API and the tools against clients that others wrote: OpenAI's SDKs for Python and Node; schemathesis, which makes
# requests from the server's own description of its API; the inspector of the Model Context Protocol.
#
#   scripts/test_clients.sh [sdk|fuzz|inspector]    default: all
#
# Needs Python 3 with venv, Node and npm. The packages are installed once, from PyPI and npm, outside the project
# (CLIENTS_FOLDER). EDITMGT names a program that is built already; EXAMPLES is the number of examples of schemathesis
# for each operation (default 30). Exit status 3: the packages can't be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
case $what in
all | sdk | fuzz | inspector) ;;
*)
    echo "test_clients.sh: expected sdk, fuzz or inspector, got $what" >&2
    exit 2
    ;;
esac
folder=${CLIENTS_FOLDER:-${XDG_CACHE_HOME:-$HOME/.cache}/editmgt/clients}
python=$folder/bin/python
export NODE_FOLDER=$folder
npm_install() { npm install --silent --no-save --no-audit --no-fund "$@"; }
install() {
    if [[ ! -e $folder/bin/schemathesis ]]; then
        python3 -m venv "$folder" && "$python" -m pip install --quiet openai schemathesis || return
    fi
    [[ -e $folder/node_modules/openai ]] || npm_install --prefix "$folder" openai || return
    # The inspector needs a newer Node than most machines have: npm has one, too.
    [[ -e $folder/inspector/node_modules/.bin/mcp-inspector ]] ||
        npm_install --prefix "$folder/inspector" node@22 @modelcontextprotocol/inspector@2
}
if ! install; then
    echo "test_clients.sh: the clients can't be installed: nothing was tested" >&2
    exit 3
fi

# shellcheck source=scripts/server.sh
source scripts/server.sh
scene=examples/scenes/scene.png
sdk=editmgt-server/tests/sdk

check_log() {
    if grep -q '"level":"ERROR"' "$scratch/log"; then
        echo "the server's log has errors" >&2
        grep '"level":"ERROR"' "$scratch/log" | head -20 >&2
        exit 1
    fi
}

# The server is started with these arguments.
fuzz() {
    start_server --log json "$@"
    "$python" $sdk/operations.py "$address" $scene >"$scratch/schemathesis.toml"
    local header=()
    [[ -n ${EDITMGT_TOKEN:-} ]] && header=(--header "Authorization: Bearer $EDITMGT_TOKEN")
    "$folder/bin/schemathesis" --config-file "$scratch/schemathesis.toml" run "${address}api/openapi.json" \
        "${header[@]}" --max-examples "${EXAMPLES:-30}" --workers 2 --request-timeout 60 --suppress-health-check all
    check_log
    stop_server
}

if [[ $what == sdk || $what == all ]]; then
    start_server --log json
    "$python" $sdk/openai_client.py "$address" $scene
    node $sdk/openai_client.mjs "$address" $scene
    check_log
    stop_server
fi
if [[ $what == fuzz || $what == all ]]; then
    fuzz
    # Photos and results on disk, and a token.
    kept=$(mktemp -d)
    EDITMGT_TOKEN=0123456789abcdef0123456789abcdef fuzz --data "$kept/photos"
    rm -rf "$kept"
fi
if [[ $what == inspector || $what == all ]]; then
    export EDITMGT_TOKEN=0123456789abcdef0123456789abcdef
    start_server --log json
    PATH=$folder/inspector/node_modules/.bin:$PATH "$python" $sdk/inspector.py "$EDITMGT" "$address" $scene
    check_log
    stop_server
fi
