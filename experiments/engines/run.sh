#!/usr/bin/env bash
# Time and memory of a step beside torchjd; about half an hour on two idle cores. Finished parts are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=.venv/bin/python
here=experiments/engines
[ -e $here/time.json ] || $python -W ignore benchmarks/engines.py --tasks 2 3 9 --repeats 7 --json $here/time.json
for cases in "mlp transformer" conv; do
  out=$here/time-40-${cases// /-}.json
  [ -e $out ] || $python -W ignore benchmarks/engines.py --cases $cases --tasks 40 --repeats 3 --json $out
done
[ -e $here/memory.json ] || $python benchmarks/memory.py --json $here/memory.json
