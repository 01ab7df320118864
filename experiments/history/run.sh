#!/bin/sh
# Every arm, eight seeds: whatever is not in results.csv yet.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python "$here/../compare.py" "$here"
