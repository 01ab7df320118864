#!/bin/sh
# Everything that is not in results.csv yet; about half an hour on two idle cores.
set -e
cd "$(dirname "$0")"
python record.py
