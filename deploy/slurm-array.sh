#!/bin/bash
# An index of REFS and the scores of GEN, each by an array of tasks that know nothing of each other, and merged.
#
#   REFS=refs GEN=gen WORK=work SHARDS=16 deploy/slurm-array.sh
#
# REFS, GEN and WORK lie on a disk that all nodes see. Run it again after a failure: what is done is not done again.
#SBATCH --job-name=iconicity
#SBATCH --output=%x-%A_%a.log
#SBATCH --cpus-per-task=8
#SBATCH --mem=24G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail

export REFS=${REFS:?a folder with one folder of images for each concept}
export GEN=${GEN:?a folder with one folder for each model}
export WORK=${WORK:-work}
# Not SLURM_ARRAY_TASK_COUNT: an array of two tasks that failed has a count of 2, and shards of its own.
export SHARDS=${SHARDS:-${SLURM_ARRAY_TASK_COUNT:-16}}
# For GPUs: SBATCH_OPTIONS="--gres=gpu:1 --partition=gpu". For encoders to be downloaded once, see docs/machines.md.
read -ra sbatch_options <<< "${SBATCH_OPTIONS:-}"
read -ra build_options <<< "${BUILD_OPTIONS:-}"
read -ra score_options <<< "${SCORE_OPTIONS:-}"

task=${SLURM_ARRAY_TASK_ID:-0}
# One cache a task: SQLite and disks of a network do not go well together.
export ICONICITY_CACHE=$WORK/cache/$task

parts() { # the folders of all tasks, in order
  local i
  for ((i = 1; i <= SHARDS; i++)); do echo "$WORK/$1/$i"; done
}

run() { # 3: done, but some files could not be used; the log names them
  "$@" || [ $? -eq 3 ]
}

case ${1:-submit} in
  submit)
    mkdir -p "$WORK"
    array=(--array="1-$SHARDS" "${sbatch_options[@]}")
    built=$(sbatch --parsable "${array[@]}" "$0" build)
    index=$(sbatch --parsable --dependency="afterok:$built" "$0" merge-index)
    scored=$(sbatch --parsable "${array[@]}" --dependency="afterok:$index" "$0" score)
    sbatch --dependency="afterok:$scored" "$0" merge-results
    ;;
  build)
    run iconicity index build --refs "$REFS" --index "$WORK/index-parts/$task" --shard "$task/$SHARDS" "${build_options[@]}"
    ;;
  merge-index)
    mapfile -t folders < <(parts index-parts)
    run iconicity index merge "${folders[@]}" --index "$WORK/references.index"
    ;;
  score)
    run iconicity score --index "$WORK/references.index" --gen-root "$GEN" --out "$WORK/result-parts/$task" --shard "$task/$SHARDS" "${score_options[@]}"
    ;;
  merge-results)
    mapfile -t folders < <(parts result-parts)
    run iconicity results merge "${folders[@]}" --out "$WORK/results"
    ;;
  *)
    echo "$0: ${1}: no such step; submit, build, merge-index, score or merge-results" >&2
    exit 2
    ;;
esac
