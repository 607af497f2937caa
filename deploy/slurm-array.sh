#!/bin/bash
# A Slurm array job: each task edits every N-th job of a file.
#
#     sbatch deploy/slurm-array.sh JOBS OUT [OPTIONS OF editmgt batch]
#     sbatch --array=0-31 --gres=gpu:1 deploy/slurm-array.sh jobs.jsonl results --model models/editmgt --device cuda
#
# JOBS and OUT must be visible on all nodes, or be URLs (s3://, gs://) with a program that was built with the feature
# `cloud`. Submit the same array again after a failure: finished jobs are skipped, the others are done. The number of
# tasks must stay the same, or OUT be another folder.
#
# --shard auto reads SLURM_ARRAY_TASK_ID, _COUNT, _MIN and _STEP, so any range will do (0-7, 1-8, 10-80:10), but not a
# list with gaps: to run one task again by itself, name it as --shard I/N among the options.
#
#SBATCH --job-name=editmgt
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
# Two minutes before the limit the program is asked to stop: it ends after the step that runs and loses that edit only.
#SBATCH --signal=B:TERM@120
# A task whose node failed, or that was preempted, starts again by itself.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=editmgt-%A_%a.log

set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: sbatch $0 JOBS OUT [OPTIONS OF editmgt batch]" >&2
    exit 2
fi
jobs=$1
out=$2
shift 2
# The program is on the PATH, or EDITMGT names it. It replaces this shell, and so gets the signals.
exec "${EDITMGT:-editmgt}" batch "$jobs" --out "$out" --shard auto --resume --quiet "$@"
