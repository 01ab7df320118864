#!/bin/sh
# SmolLM2-135M-Instruct on Frozen Lake, three seeds, one after the other; a run that is finished is not repeated, one that
# was interrupted goes on. Then base and best checkpoint on the same 500 starts of the test part.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/fetch.sh"
for seed in 0 1 2; do
    run=$here/runs/seed-$seed
    if [ ! -f "$run/run.json" ]; then
        msgrpo train experiment=smollm2_frozenlake "seed=$seed" "hydra.run.dir=$run"
    elif ! grep -qs '"status": "done"' "$run/run.json"; then
        msgrpo train --resume "$run"
    fi
    [ -n "$(find "$run/eval" -name 'frozenlake-test-*.json' 2>/dev/null)" ] || msgrpo eval "$run" eval.episodes=500
done
python "$here/../record.py" "$here" "$here"/runs/seed-0 "$here"/runs/seed-1 "$here"/runs/seed-2
