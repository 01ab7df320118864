#!/bin/sh
# The other games that ship, 30 updates each with the default values, seed 0, one after the other.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
games="snake_8 frozenlake_slippery frozenlake_8x8 cliffwalking taxi blackjack sokoban minesweeper guess_number guess_number_forgetful"
runs=
for game in $games; do
    run=$here/runs/$game
    grep -qs '"status": "done"' "$run/run.json" || msgrpo train "env=$game" max_updates=30 "hydra.run.dir=$run"
    runs="$runs $run"
done
# shellcheck disable=SC2086
python "$here/../record.py" "$here" $runs
