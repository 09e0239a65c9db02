#!/usr/bin/env bash
# Every study, from the root of the repository. What is finished is skipped, so that it can be stopped at any time.
# About 70 minutes of two cores for one set of seeds (SETS=1), twice that for both.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=experiments/studies
for name in E01 E02 E03 E04 E05 E06 E07 E08 E09a E09b E09c E10 E11 E11b E12 X1 X2; do
  .venv/bin/accord study run "$name" --sets "${SETS:-2}" --out "$out"
done
.venv/bin/accord study page --out "$out" # all verdicts on one page, and summary.json
.venv/bin/python "$out/table.py" > "$out/verdicts.md"
