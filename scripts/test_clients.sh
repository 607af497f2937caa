#!/usr/bin/env bash
# The API against clients that others wrote: OpenAI's SDKs for Python and Node, and schemathesis, which makes requests
# from the server's own description of its API.
#
#   scripts/test_clients.sh [sdk|fuzz]    default: both
#
# Needs Python 3 with venv, Node and npm. The packages are installed once, from PyPI and npm, outside the project
# (CLIENTS_FOLDER). EDITMGT names a program that is built already; EXAMPLES is the number of examples of schemathesis
# for each operation (default 30). Exit status 3: the packages can't be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-both}
folder=${CLIENTS_FOLDER:-${XDG_CACHE_HOME:-$HOME/.cache}/editmgt/clients}
python=$folder/bin/python
export NODE_FOLDER=$folder
install() {
    if [[ ! -e $folder/bin/schemathesis ]]; then
        python3 -m venv "$folder" && "$python" -m pip install --quiet openai schemathesis || return
    fi
    [[ -e $folder/node_modules/openai ]] ||
        npm install --silent --no-save --no-audit --no-fund --prefix "$folder" openai
}
if ! install; then
    echo "test_clients.sh: the clients can't be installed: nothing was tested" >&2
    exit 3
fi

# shellcheck source=scripts/server.sh
source scripts/server.sh
start_server --log json
scene=examples/scenes/scene.png
sdk=editmgt-server/tests/sdk

if [[ $what != fuzz ]]; then
    "$python" $sdk/openai_client.py "$address" $scene
    node $sdk/openai_client.mjs "$address" $scene
fi
if [[ $what != sdk ]]; then
    "$python" $sdk/operations.py "$address" $scene >"$scratch/schemathesis.toml"
    "$folder/bin/schemathesis" --config-file "$scratch/schemathesis.toml" run "${address}api/openapi.json" \
        --max-examples "${EXAMPLES:-30}" --workers 2 --request-timeout 60 --suppress-health-check all
fi
if grep -c '"level":"ERROR"' "$scratch/log"; then
    echo "the server's log has errors" >&2
    grep '"level":"ERROR"' "$scratch/log" | head -20 >&2
    exit 1
fi
