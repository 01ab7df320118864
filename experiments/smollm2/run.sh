#!/bin/sh
# SmolLM2-135M-Instruct on Frozen Lake: adapters with seeds 0, 1 and 2, and the whole model with seed 0, one after the
# other; a run that is finished is not repeated, one that was interrupted goes on. Then, on 500 starts of the test part, base
# and best checkpoint of each, and the players that the same starts were also given to: uniform play, the heuristic, and (100
# starts) the base without worked turns.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/fetch.sh"
one() {
    run=$here/runs/$1
    shift
    if [ ! -f "$run/run.json" ]; then
        msgrpo train experiment=smollm2_frozenlake "$@" "hydra.run.dir=$run"
    elif ! grep -qs '"status": "done"' "$run/run.json"; then
        msgrpo train --resume "$run"
    fi
}
for seed in ${SEEDS:-0 1 2}; do
    one "lora-$seed" "seed=$seed"
done
for seed in ${WHOLE:-0}; do
    one "whole-$seed" "seed=$seed" lora.enabled=false trainer.learning_rate=1e-5
done
[ "${ALONE:-}" ] && exit 0
for run in "$here"/runs/lora-* "$here"/runs/whole-*; do
    [ -n "$(find "$run/eval" -name 'frozenlake-test-*.json' 2>/dev/null)" ] || msgrpo eval "$run" eval.episodes=500 rollout.prefix_memory=3000
done
if [ ! -f "$here/runs/reference.jsonl" ]; then
    lake="env=frozenlake env.look_around=true --json"
    shown="model=smollm2-135m-gguf prompt=action_only prompt.observation=compact rollout=short rollout.max_new_tokens=6"
    {
        msgrpo eval policy=random $lake eval.episodes=500
        msgrpo eval policy=greedy $lake eval.episodes=500
        msgrpo eval $shown rollout.max_prompt_tokens=500 $lake eval.episodes=100
    } > "$here/runs/reference.partial"
    mv "$here/runs/reference.partial" "$here/runs/reference.jsonl"
fi
python "$here/../record.py" "$here" "$here"/runs/lora-* "$here"/runs/whole-*
python "$here/players.py" "$here" "$here"/runs/lora-* "$here"/runs/whole-*
