#!/usr/bin/env bash
# Everything on the page, in order; hours on one core, less with several shards beside each other. Needs ACCORD_DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
shard=${1:-0/1}
run() { python experiments/mtpp/run.py --splits 3 --lr 4e-3 --limit 400 --shard "$shard" "$@"; }
run --sets tpp-mooc --epochs 6
run --sets tpp-stackoverflow --epochs 2
run --sets tpp-reddit --epochs 3
run --sets tpp-mooc --epochs 6 --kinds thp --methods "PCGrad();CAGrad(c=0.5);NashMTL();UPGrad()"
python experiments/mtpp/hawkes.py
python experiments/mtpp/compensators.py
python experiments/mtpp/tables.py > experiments/mtpp/tables.md
