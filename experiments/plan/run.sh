#!/bin/sh
# Peak memory, planned beside measured: whatever is not in results.csv yet. One thread, nothing else running.
set -e
cd "$(dirname "$0")"
OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python measure.py results.csv
