# For scripts that need `editmgt serve`: source it after `cd` to the project's root.
#
# start_server ARGUMENTS   starts the program (EDITMGT, built here where it isn't set) on a free port, and sets
#                          `address` and `scratch`, a temporary folder with the server's `log`; both end with the script

start_server() {
    if [[ -z ${EDITMGT:-} ]]; then
        cargo build -q --locked -p editmgt-cli
        EDITMGT=${CARGO_TARGET_DIR:-target}/debug/editmgt
    fi
    scratch=$(mktemp -d)
    server=
    trap stop_server EXIT
    "$EDITMGT" serve --port 0 "$@" >"$scratch/address" 2>"$scratch/log" &
    server=$!
    for _ in $(seq 300); do
        [[ -s $scratch/address ]] && break
        sleep 0.1
    done
    if [[ ! -s $scratch/address ]]; then
        cat "$scratch/log" >&2
        exit 1
    fi
    # shellcheck disable=SC2034 # for the script
    address=$(<"$scratch/address")
}

stop_server() {
    if [[ -n $server ]]; then
        kill -INT "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    server=
    rm -rf "$scratch"
}
