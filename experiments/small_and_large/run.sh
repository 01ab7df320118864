#!/bin/sh
# A base 24 times as large (once, 16 minutes of one core), both bases and the imitated player scored, eight seeds of both.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ -f "$here/large/config.json" ] || python -m msgrpo_cli.models.embedded large "$here/large"
[ -f "$here/bases.json" ] || python "$here/bases.py"
python "$here/../compare.py" "$here"
