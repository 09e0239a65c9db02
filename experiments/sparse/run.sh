#!/usr/bin/env bash
# Everything on the page, in order; finished runs are skipped, stopped ones go on. Needs ACCORD_DATA. About 70 minutes of
# two slow cores. SEEDS=5 adds two seeds to what is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python experiments/sparse/plan.py "${OUT:-runs/sparse}" --seeds "${SEEDS:-3}" --jobs "${JOBS:-2}"
python experiments/sparse/lora.py "${OUT:-runs/sparse}" --seeds "${SEEDS:-3}"
python experiments/sparse/analyse.py "${OUT:-runs/sparse}" --to "${TO:-experiments/sparse}"
# On a machine that does nothing else:
python benchmarks/sparse_selection.py > experiments/sparse/bench/selection.txt
python benchmarks/sparse_step.py --cases mlp vit-ti conv vit-s --tasks 2 --repeats 7 > experiments/sparse/bench/step.txt
python benchmarks/sparse_memory.py --models vit-b vit-s vit-ti --tasks 2 3 > experiments/sparse/bench/memory.txt
