#!/usr/bin/env bash
# Everything on the page, in order; finished runs are skipped. Needs ACCORD_DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
accord bench suites/nyuv2.yaml --out runs/nyuv2
accord tables runs/nyuv2 --to experiments/nyuv2/tables --format md
python experiments/collect.py runs/nyuv2 > experiments/nyuv2/results.jsonl
python experiments/nyuv2/constants.py
