#!/bin/sh
# From a base that knows only the format, about ten minutes each on one core: 8 steps and 12 steps.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
train() {
    run=$here/runs/$1
    shift
    grep -qs '"status": "done"' "$run/run.json" ||
        msgrpo train model=tiny_random eval.every=30 save.every=30 "hydra.run.dir=$run" "$@"
}
train steps-8 env.max_steps=8 max_updates=150
train steps-12 env.max_steps=12 max_updates=150
python "$here/../record.py" "$here" "$here/runs/steps-8" "$here/runs/steps-12"
