#!/bin/bash
# Runs deploy/slurm-array.sh on a Slurm of one node that is started for it, kills a task in its middle, submits the array
# again, and checks that every job was done once.
#
#     scripts/slurm_array.sh [PROGRAM]        [default: target/debug/editmgt]
#
# Needs Debian's packages slurm-wlm and munge, and root to start their daemons. Where a Slurm runs already, it is used:
# set SLURM_CONF, or have sinfo answer. Prints what happened; docs/distributed.md has an output.

set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
program=$(realpath "${1:-$root/target/debug/editmgt}")
work=$(mktemp -d)
daemons=()
finish() {
    for daemon in "${daemons[@]}"; do kill "$daemon" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

start_slurm() {
    mkdir -p "$work/slurm/state" "$work/slurm/spool" "$work/munge"
    chmod 700 "$work/munge"
    head -c 1024 /dev/urandom >"$work/munge/key"
    chmod 600 "$work/munge/key"
    # In the foreground, so that they end with this script.
    munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
        --log-file="$work/munge/log" --seed-file="$work/munge/seed" 2>"$work/munge/messages" &
    daemons+=($!)
    local host
    host=$(hostname -s)
    cat >"$work/slurm/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/slurm/state
SlurmdSpoolDir=$work/slurm/spool
SlurmctldPidFile=$work/slurm/slurmctld.pid
SlurmdPidFile=$work/slurm/slurmd.pid
SlurmctldLogFile=$work/slurm/slurmctld.log
SlurmdLogFile=$work/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$work/slurm/slurm.conf
    slurmctld -D 2>/dev/null &
    daemons+=($!)
    slurmd -D -N "$host" 2>/dev/null &
    daemons+=($!)
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then return; fi
        sleep 0.5
    done
    echo "Slurm did not start:" >&2
    tail -20 "$work"/slurm/*.log >&2
    exit 1
}

wait_for_array() {
    for _ in $(seq 1200); do
        if [ -z "$(squeue --noheader --array 2>/dev/null)" ]; then return; fi
        sleep 0.25
    done
    echo "the array does not end" >&2
    exit 1
}

# Lines of the manifests with this status: all, and for how many jobs.
entries() {
    cat "$out"/manifest-*-of-4.jsonl | grep -c "\"status\":\"$1\"" || true
}
jobs_done() {
    cat "$out"/manifest-*-of-4.jsonl | grep "\"status\":\"done\"" | sed 's/.*"name":"\([^"]*\)".*/\1/' | sort -u | wc -l
}

if ! sinfo --noheader >/dev/null 2>&1; then start_slurm; fi
sinfo --version

out=$work/results
for i in $(seq 24); do
    printf '{"photo": "%s", "instruction": "make the red car blue", "seed": %d, "steps": 60, "name": "job-%02d"}\n' \
        "$root/editmgt-server/scenes/scene.png" "$i" "$i"
done >"$work/jobs.jsonl"
submit() {
    EDITMGT=$program sbatch --parsable --array=0-3 --cpus-per-task=1 --mem=200M --output="$work/log-%A_%a" \
        "$root/deploy/slurm-array.sh" "$work/jobs.jsonl" "$out"
}

echo "== 24 jobs, an array of 4 tasks, 2 at once"
array=$(submit)
for _ in $(seq 600); do
    if [ "$(grep -c . "$out/manifest-2-of-4.jsonl" 2>/dev/null)" -ge 2 ] 2>/dev/null; then break; fi
    sleep 0.1
done
scancel --signal=KILL --batch "${array}_1"
wait_for_array
tail -qn1 "$work"/log-"$array"_*
echo "after the kill of task 1: $(jobs_done) of 24 jobs done, $(entries failed) failed"
if [ "$(jobs_done)" -ge 24 ]; then
    echo "task 1 ended before it was killed" >&2
    exit 1
fi
before=$(entries "done")
sha256sum "$out"/*.png >"$work/before"

echo "== the same array again"
array=$(submit)
wait_for_array
tail -qn1 "$work"/log-"$array"_*
echo "after the resubmission: $(jobs_done) of 24 jobs done, $(entries failed) failed"
echo "edits that ran: $before + $(($(entries "done") - before)) = $(entries "done"), for $(jobs_done) jobs"

[ "$(jobs_done)" -eq 24 ]
[ "$(entries "done")" -eq 24 ]
[ "$(find "$out" -name '*.png' | wc -l)" -eq 24 ]
# What was done before is untouched; nothing half-written is left.
sha256sum --quiet --check "$work/before"
[ -z "$(find "$out" -name '.editmgt-*')" ]
echo "== every job was done once"
