"""Compensators of the trained models in float32 against float64 quadrature of their intensity.

    python experiments/mtpp/compensators.py --set tpp-mooc

Needs the parameters that ``run.py`` leaves in ``states``. The oracle integrates exp(log f + Lambda) in log time, 20
panels of 8 Gauss-Legendre nodes, in float64 and with 64 nodes where the model itself has a quadrature; what lies below
the floor is the model's own. Errors are relative to max(Lambda, 0.05), over events of the test part.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch
from run import below, parts_of, place

from accord import tpp
from accord.tpp.build import rebuild
from accord.tpp.checkpoint import read
from accord.tpp.numerics.quadrature import nodes

HERE = Path(__file__).parent
PANELS, NODES = 20, 8


@torch.no_grad()
def error(model: tpp.PointProcess, events: tpp.Events) -> torch.Tensor:
    """(n,) relative errors."""
    batch = next(tpp.batches(events, len(events)))
    h = model.encode(batch)[0][batch.prev]  # (n, D) float32
    tau = batch.gap[batch.event].clamp(min=model.floor)
    found = model.time_part.compensator(h, tau).double()
    part = copy.deepcopy(model.time_part).double()
    if part.nodes is not None:
        part.nodes = 64
    h, tau = h.double(), tau.double()
    floor = torch.full_like(tau, model.floor)
    total = part.compensator(h, floor)
    x, w = nodes(NODES, tau)
    width = (tau / floor).log() / PANELS  # (n,)
    for panel in range(PANELS):
        for node, weight in zip(x, w, strict=True):
            u = floor * torch.exp(width * (panel + node))
            density, compensator = part.density(h, u)
            total += weight * width * u * torch.exp(density + compensator)
    return (found - total).abs() / total.clamp(min=0.05)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="tpp-mooc")
    parser.add_argument("--split", type=int, default=0)
    given = parser.parse_args()
    test, rows = parts_of(given.set, given.split, 12).test, {}
    for folder in sorted((HERE / "states" / given.set).iterdir()):
        kind = folder.name
        if kind not in tpp.NAMES:
            continue
        tensors, about = read(place(given.set, kind, given.split, "Sum()", "states", ".safetensors"))
        model = rebuild(about["settings"])
        model.load_state_dict(below(tensors, "joint"))
        errors = error(model, test).numpy()
        rows[kind] = {"median": float(np.median(errors)), "p99": float(np.quantile(errors, 0.99)), "max": errors.max()}
        print(f"{kind:10} median {rows[kind]['median']:.1e}  99th percentile {rows[kind]['p99']:.1e}", flush=True)
    (HERE / f"compensators-{given.set}.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
