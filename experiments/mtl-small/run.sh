#!/usr/bin/env bash
# Everything on the page, in order; finished runs are skipped. Needs ACCORD_DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
accord bench suites/mtl-small.yaml --out runs/mtl-small --jobs 2
accord tables runs/mtl-small --to experiments/mtl-small/tables --format md
accord report runs/mtl-small --out runs/mtl-small/report.html --figures runs/mtl-small/figures
python experiments/collect.py runs/mtl-small > experiments/mtl-small/results.jsonl
python experiments/mtl-small/recompute.py experiments/mtl-small/results.jsonl
