#!/bin/sh
# SmolLM2-135M-Instruct on one GPU, in at most eight minutes and without a network: trains in bf16, plays, saves, scores
# base and best checkpoint on the same starts, and prints tokens a second beside what the card reaches in a bare product.
#
#   sh gpu.sh [KEY=VALUE]...
#
# WHEELS names a folder of wheels for whatever the machine lacks (pip takes nothing from elsewhere then). PARTS names a
# folder with the pieces of the model's file where it cannot travel whole (split -b 60m FILE FILE.part-): they are joined
# where model=smollm2-135m-gguf looks. MINUTES (default 5) is what training may take, EPISODES (default 500) how many
# starts are scored at the end, PYTHON the Python. Without a GPU, in minutes: EPISODES=4 sh gpu.sh trainer.bf16=false
# algo.groups_per_update=1 algo.group_size=4 max_updates=2 eval.every=0 eval.episodes=4
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
name=SmolLM2-135M-Instruct.Q4_1.gguf
folder=${XDG_CACHE_HOME:-$HOME/.cache}/msgrpo/smollm2-135m-gguf
out=${OUT:-$here/runs/gpu}

if [ -n "${WHEELS:-}" ]; then
	"$python" -m pip install --quiet --no-index --find-links "$WHEELS" "$WHEELS"/*.whl
fi
if [ -n "${PARTS:-}" ] && [ ! -f "$folder/$name" ]; then
	mkdir -p "$folder"
	cat "$PARTS/$name".part-* > "$folder/$name.joined"
	mv "$folder/$name.joined" "$folder/$name"
fi
sh "$here/fetch.sh"
export PYTHONPATH="$here/../../src${PYTHONPATH:+:$PYTHONPATH}"
hours=$("$python" -c "print(${MINUTES:-5} / 60)")
"$python" -m msgrpo_cli train experiment=smollm2_frozenlake trainer.bf16=true algo.groups_per_update=32 max_updates=200 \
	eval.every=50 save.every=50 "max_hours=$hours" "hydra.run.dir=$out" "$@" || [ $? -eq 143 ]
"$python" -m msgrpo_cli eval "$out" "eval.episodes=${EPISODES:-500}"
"$python" "$here/gpu_speed.py" "$out"
