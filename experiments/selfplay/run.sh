#!/bin/sh
# Four opponents, two games, eight seeds: whatever is not in results.csv yet. Then every checkpoint is measured.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python "$here/selfplay.py"
