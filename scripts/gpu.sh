#!/usr/bin/env bash
# What this project does on a GPU, from programs that were built elsewhere.
#
#   scripts/gpu.sh build OUT                          programs and everything that the others need, in OUT
#   scripts/gpu.sh run OUT RESULTS [MINUTES]          checks and measures (10 minutes by default)
#   scripts/gpu.sh train OUT CONFIG RESULTS MINUTES   trains a configuration, from the last checkpoint in RESULTS
#   scripts/gpu.sh report RESULTS                     RESULTS/results.md and results.json from what `run` wrote
#
# `build` needs Rust; the others bash and the driver, and Python for the report and PyTorch's part. Each part of
# `run` has its time; one that fails or takes too long is in the report, and the next one runs.
#
#   BACKENDS   cargo features of `build` [flex,vulkan, which has wgpu, and cuda where its LLVM bundle is there]
#   PROFILE    cargo profile of `build` [release]
#   DEVICES    devices to try, the most important first [those that work of "cuda vulkan wgpu"]
#   PRESET     full or tiny [full]
#   SIZES, STEPS, DTYPES, PLANS   of the table of edits [1024 512; 36 16; bf16 f16 f32; exact cached cached-mask]
set -uo pipefail

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '/^set /d' >&2
    exit 2
}

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

# The folder that the build script of burn's CUDA backend fills, if any.
llvm_bundle() {
    local folder
    for folder in "${XDG_DATA_HOME:-$HOME/.local/share}"/tracel/tracel-llvm-*/; do
        [[ -d $folder ]] && echo "$folder"
    done
}

build() {
    local out=$1 profile=${PROFILE:-release} features target
    cd "$(dirname "$0")/.." || exit
    features=flex,vulkan
    if [[ -n $(llvm_bundle) ]]; then
        features+=,cuda
    else
        echo "note: without cuda: its LLVM bundle is not on this machine (docs/backends.md)" >&2
    fi
    features=${BACKENDS:-$features},embedded,editmgt-lab/train
    cargo build --locked --profile "$profile" -p editmgt-cli -p editmgt-lab --no-default-features \
        --features "$features" || fail "the build failed"
    target=${CARGO_TARGET_DIR:-target}/$profile
    mkdir -p "$out/golden" "$out/golden-amused" || exit
    local program
    for program in editmgt editmgt-lab; do
        # A fifth of the size: machines with a GPU are often reached over a slow link.
        strip -o "$out/$program" "$target/$program" || exit
        gzip -9f "$out/$program" || exit
    done
    cp -r tests/golden/*/ "$out/golden/" || exit
    cp -r tests/golden-amused/*/ "$out/golden-amused/" || exit
    cp editmgt-lab/src/scene.png "$out/photo.png" || exit
    cp scripts/gpu.sh scripts/gpu_report.py scripts/bench_reference.py "$out/" || exit
    git rev-parse HEAD >"$out/commit" 2>/dev/null || echo unknown >"$out/commit"
    echo "$features" >"$out/features"
    echo "$profile" >"$out/profile"
    du -sh "$out"
}

# Unpacks the programs of OUT into $programs, away from OUT, which may be read-only.
unpack() {
    programs=$(mktemp -d)
    trap 'rm -rf "$programs"' EXIT
    local program
    for program in editmgt editmgt-lab; do
        gzip -dc "$out/$program.gz" >"$programs/$program" || fail "$out: build it by scripts/gpu.sh build"
        chmod +x "$programs/$program"
    done
}

working_devices() {
    local device
    "$programs/editmgt" devices >"$results/devices.txt" 2>"$results/devices.err"
    for device in ${DEVICES:-cuda vulkan wgpu}; do
        if grep -q "^${device}[: ]" "$results/devices.txt" \
            && ! grep "^${device}[: ]" "$results/devices.txt" | grep -q unavailable; then
            echo "$device"
        fi
    done
}

# part NAME SECONDS COMMAND…: runs it for at most that long and no longer than what is left; output in
# RESULTS/NAME.out and NAME.err, memory of the GPU in NAME.gpu, outcome in parts.tsv.
part() {
    local name=$1 limit=$2 left status=0 start watcher=
    shift 2
    left=$((deadline - $(date +%s)))
    ((limit > left)) && limit=$left
    if ((limit < 5)); then
        printf '%s\tno time left\t0\t%s\n' "$name" "$limit" >>"$results/parts.tsv"
        echo "== $name: no time left" >&2
        return 0
    fi
    echo "== $name (at most $limit s)" >&2
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used,utilization.gpu,power.draw --format=csv,noheader,nounits -lms 200 \
            >"$results/$name.gpu" 2>/dev/null &
        watcher=$!
    fi
    start=$(date +%s.%N)
    timeout --kill-after=5 "$limit" "$@" >"$results/$name.out" 2>"$results/$name.err" || status=$?
    local seconds
    seconds=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    [[ -n $watcher ]] && kill "$watcher" 2>/dev/null && wait "$watcher" 2>/dev/null
    case $status in
        0) status=ok ;;
        124 | 137) status="stopped after $limit s" ;;
        *) status="exit status $status" ;;
    esac
    printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$seconds" "$limit" >>"$results/parts.tsv"
    echo "   $status, $seconds s" >&2
}

# A white square of 15% of an image's area, 160x160, as a PNG.
mask_png() {
    base64 -d <<<"iVBORw0KGgoAAAANSUhEUgAAAKAAAACgCAAAAACupDjxAAAAUklEQVR42u3OQREAAAgDoPUvrR3m+YMEZE7yT1BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFAQAAAAAAAAAAAAAAAAAACA1gLiE/XPRuksawAAAABJRU5ErkJggg=="
}

# The jobs of the table, for `editmgt batch`: for each size a warm-up of every plan, which compiles and tunes
# kernels, then each plan and number of steps.
jobs_of() {
    local size steps plan
    for size in ${SIZES:-1024 512}; do
        for plan in ${PLANS:-exact cached cached-mask}; do
            job "warm-$size-$plan" "$size" 4 "$plan"
        done
        for plan in ${PLANS:-exact cached cached-mask}; do
            for steps in ${STEPS:-36 16}; do
                job "edit-$size-$plan-$steps" "$size" "$steps" "$plan"
            done
        done
    done
}

job() {
    local name=$1 size=$2 steps=$3 plan=$4 more=
    case $plan in
        exact) plan='"exact"' ;;
        cached) plan='{"cached":{"warm_up":2,"refresh":8}}' ;;
        cached-mask)
            plan='{"cached":{"warm_up":1,"refresh":8}}'
            more=',"mask":"mask.png","hold":"mask"'
            ;;
        *) fail "unknown plan $plan: exact, cached or cached-mask" ;;
    esac
    echo "{\"photo\":\"photo.png\",\"instruction\":\"make it red\",\"name\":\"$name\",\"steps\":$steps,\"size\":$size,\"steps_plan\":$plan$more}"
}

run() {
    local minutes=$1 preset=${PRESET:-full} device first dtype seconds
    deadline=$(($(date +%s) + minutes * 60 - 10))
    seconds=$((minutes * 60))
    unpack
    : >"$results/parts.tsv"
    cp "$out/commit" "$out/features" "$out/profile" "$results/"
    echo "$preset" >"$results/preset"
    date -u +%Y-%m-%dT%H:%MZ >"$results/date"
    { uname -srm; nproc; nvidia-smi 2>&1; } >"$results/machine.txt"
    local devices
    mapfile -t devices < <(working_devices)
    cat "$results/devices.txt" >&2
    ((${#devices[@]})) || fail "none of ${DEVICES:-cuda vulkan wgpu} works: $results/devices.txt"
    first=${devices[0]}
    printf '%s\n' "${devices[@]}" >"$results/devices"

    # Whether results are right comes first: one device for all, the others at the end.
    part "conformance-$first" $((seconds / 4)) "$programs/editmgt-lab" conformance --json --device "$first"
    part "verify-$first" $((seconds / 6)) "$programs/editmgt" verify --device "$first" \
        "$out"/golden/*/ "$out"/golden-amused/*/

    local work=$programs/work
    mkdir -p "$work"
    cp "$out/photo.png" "$work/photo.png"
    mask_png >"$work/mask.png"
    jobs_of >"$work/jobs.jsonl"
    part init $((seconds / 6)) "$programs/editmgt-lab" init "$work/model" --preset "$preset" --dtype bf16
    local supported
    supported=$(grep "^${first}[: ]" "$results/devices.txt" | head -1)
    for dtype in ${DTYPES:-bf16 f16 f32}; do
        if [[ " $supported " != *" $dtype "* ]]; then
            printf 'edits-%s-%s\t%s\t0\t0\n' "$first" "$dtype" "$dtype is not supported" >>"$results/parts.tsv"
            continue
        fi
        part "edits-$first-$dtype" $((seconds / 4)) "$programs/editmgt" batch "$work/jobs.jsonl" -m "$work/model" \
            -o "$work/$dtype" --device "$first" --dtype "$dtype" -q
        cp "$work/$dtype/manifest.jsonl" "$results/edits-$first-$dtype.jsonl" 2>/dev/null
    done
    for dtype in ${DTYPES:-bf16 f16 f32}; do
        [[ " $supported " == *" $dtype "* ]] || continue
        local size
        for size in ${SIZES:-1024 512}; do
            part "bench-$first-$dtype-$size" $((seconds / 10)) "$programs/editmgt-lab" bench --preset "$preset" \
                --size "$size" --device "$first" --dtype "$dtype" \
                --json "$results/bench-$first-$dtype-$size.json"
        done
    done
    profile "$first" "$preset" $((seconds / 10))
    if [[ $preset == full ]] && python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        local sizes=${SIZES:-1024 512}
        part pytorch $((seconds / 3)) python3 "$out/bench_reference.py" --edits "$programs/editmgt-lab" \
            --device cuda --sizes "${sizes// /,}" --json "$results/pytorch.json"
    else
        printf 'pytorch\tleft out: it needs the preset full and a torch that sees a GPU\t0\t0\n' >>"$results/parts.tsv"
    fi
    for device in "${devices[@]:1}"; do
        part "conformance-$device" $((seconds / 4)) "$programs/editmgt-lab" conformance --json --device "$device"
        part "verify-$device" $((seconds / 6)) "$programs/editmgt" verify --device "$device" "$out"/golden/*/
    done
    report
}

# The kernels of a transformer step: by Nsight Systems on CUDA where it is installed, else by CubeCL's own log.
profile() {
    local device=$1 preset=$2 limit=$3 size
    size=${SIZES:-1024 512}
    size=${size%% *}
    local bench=("$programs/editmgt-lab" bench --preset "$preset" --size "$size" --stages transformer
        --device "$device" --repeat 1)
    if [[ $device == cuda* ]] && command -v nsys >/dev/null; then
        part profile "$limit" nsys profile --stats=true --force-overwrite=true --trace=cuda \
            --output "$programs/profile" "${bench[@]}"
    else
        CUBECL_DEBUG_OPTION=profile-medium CUBECL_DEBUG_LOG=stderr part profile "$limit" "${bench[@]}"
        # The log also has the source of every kernel.
        grep -av '^\[START_KERNEL_COMPILATION\]' "$results/profile.err" | tail -n 400 >"$results/profile.txt"
        rm -f "$results/profile.err"
    fi
}

train() {
    local config=$1 minutes=$2 device
    deadline=$(($(date +%s) + minutes * 60))
    unpack
    touch "$results/parts.tsv"
    device=$(working_devices | head -1)
    [[ -n $device ]] || fail "none of ${DEVICES:-cuda vulkan wgpu} works: $results/devices.txt"
    part "conformance-$device" 120 "$programs/editmgt-lab" conformance --json --device "$device"
    grep -q "^conformance-$device.ok" "$results/parts.tsv" \
        || echo "note: $device does not conform: $results/conformance-$device.out" >&2
    local resume=()
    [[ -d $results/run ]] && resume=(--resume)
    # Training ends at a checkpoint or loses what came after it: `checkpoint_every` of the configuration decides how much.
    local seconds=$((deadline - $(date +%s) - 10)) status=0
    ((seconds > 0)) || fail "no time left to train in"
    timeout --kill-after=10 "$seconds" "$programs/editmgt-lab" train edit "$config" \
        --out "$results/run" --device "$device" "${resume[@]}" >"$results/train.out" 2>"$results/train.err" || status=$?
    tail -n 3 "$results/train.err" >&2
    # 124: stopped as planned.
    [[ $status == 0 || $status == 124 ]] || fail "training failed with exit status $status: $results/train.err"
}

report() {
    local script
    script=$(dirname "$0")/gpu_report.py
    if command -v python3 >/dev/null; then
        python3 "$script" "$results" >"$results/results.md" && cat "$results/results.md"
    else
        echo "note: no Python here: run scripts/gpu.sh report $results elsewhere" >&2
    fi
}

case ${1:-} in
    build)
        (($# == 2)) || usage
        mkdir -p "$2" && out=$(cd "$2" && pwd) || exit
        build "$out"
        ;;
    run)
        (($# == 3 || $# == 4)) || usage
        [[ ${4:-10} =~ ^[1-9][0-9]*$ ]] || usage
        out=$(cd "$2" && pwd) && mkdir -p "$3" && results=$(cd "$3" && pwd) || exit
        run "${4:-10}"
        ;;
    train)
        (($# == 5)) || usage
        [[ $5 =~ ^[1-9][0-9]*$ ]] || usage
        out=$(cd "$2" && pwd) && mkdir -p "$4" && results=$(cd "$4" && pwd) || exit
        [[ -e $3 ]] || fail "$3: no such configuration"
        train "$3" "$5"
        ;;
    report)
        (($# == 2)) || usage
        results=$2
        report
        ;;
    *) usage ;;
esac
