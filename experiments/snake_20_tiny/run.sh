#!/bin/sh
# Snake with its defaults but 120 updates, which two cores do in ten minutes; three seeds, one after the other.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for seed in 0 1 2; do
    run=$here/runs/seed-$seed
    grep -qs '"status": "done"' "$run/run.json" ||
        msgrpo train env=snake_20 max_updates=120 "seed=$seed" "hydra.run.dir=$run"
done
python "$here/../record.py" "$here" "$here"/runs/seed-0 "$here"/runs/seed-1 "$here"/runs/seed-2
