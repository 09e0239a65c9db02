#!/usr/bin/env bash
# Milliseconds per solve beside torchjd, on seven families of Gramians; about eight minutes. Skipped if it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/solvers
[ -e $here/solvers.txt ] || OMP_NUM_THREADS=1 .venv/bin/python benchmarks/solvers.py --repeats 9 --peers \
  --instances negative gaussian square wide deficient unequal positive | tee $here/solvers.txt
