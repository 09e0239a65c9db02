#!/usr/bin/env bash
# Everything on the page, in order; finished runs are skipped. Needs ACCORD_DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
accord bench suites/mtl-small.yaml --out runs/mtl-small --jobs 2
accord tables runs/mtl-small --to experiments/mtl-small/tables --format md
accord report runs/mtl-small --out runs/mtl-small/report.html --figures runs/mtl-small/figures
python experiments/collect.py runs/mtl-small > experiments/mtl-small/results.jsonl
python experiments/mtl-small/recompute.py experiments/mtl-small/results.jsonl

# The control of the page: the same methods at equal rates, and what `compare` says about each.
for lr in 0.0005 0.002; do
  for method in 'Sum()' 'FAMO()' 'CAGrad(c=0.5)' 'NashMTL()'; do
    accord run 'mulan-jura(epochs=60)' --method "$method" --seeds 3 --lr "$lr" --select validation --out "runs/mtl-control/$lr"
  done
done
python experiments/collect.py runs/mtl-control > experiments/mtl-small/control.jsonl
