#!/usr/bin/env bash
# Time and fidelity of kept weights; about six minutes on two idle cores. Skipped if it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/refresh
[ -e $here/results.txt ] || {
  .venv/bin/python benchmarks/refresh.py --cases mlp --repeats 7
  .venv/bin/python benchmarks/refresh.py --cases transformer --repeats 2 --steps 20 | tail -1
  .venv/bin/python benchmarks/refresh.py --cases conv --repeats 2 --steps 20 | tail -1
} | tee $here/results.txt
