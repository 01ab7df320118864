#!/bin/sh
# The main job with its defaults, three seeds, one after the other; a run that is finished is not repeated.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for seed in 0 1 2; do
    run=$here/runs/seed-$seed
    grep -qs '"status": "done"' "$run/run.json" || msgrpo train "seed=$seed" "hydra.run.dir=$run"
done
python "$here/../record.py" "$here" "$here"/runs/seed-0 "$here"/runs/seed-1 "$here"/runs/seed-2
