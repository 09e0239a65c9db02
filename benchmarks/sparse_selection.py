"""How long choosing takes, per rule, on the shapes of ViT-B/16: 85.8 million weights, k = 300.

``python benchmarks/sparse_selection.py [rule ...]`` prints seconds of the clock, and of the processor: the sum over
threads, which neighbours on the machine disturb less. `scope` is everything but the rule: reading the
model, looking for NaN, and the fingerprint of the weights. Beside PSN stands the plain way, a stable sort of each row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from accord.sparse import PSN, RULES, BitFit, Blocks, Columns, GlobalMagnitude, RandomBlock, RandomNeuron, select
from accord.sparse.rules import Smallest, parse_rule

K = 300
RULES_HERE = [BitFit(), PSN(k=K), Smallest(k=K), RandomNeuron(k=K), RandomBlock(k=K), GlobalMagnitude(k=K)]
RULES_HERE += [Columns(k=K), Blocks(k=K)]


def vit(d: int = 768, depth: int = 12) -> nn.Module:
    """The matrices of a ViT; its blocks are those that the rules see."""
    sizes = {"qkv": (d, 3 * d), "proj": (d, d), "fc1": (d, 4 * d), "fc2": (4 * d, d)}
    blocks = [nn.ModuleDict({name: nn.Linear(a, b) for name, (a, b) in sizes.items()}) for _ in range(depth)]
    return nn.ModuleDict({"patch": nn.Conv2d(3, d, 16, 16), "blocks": nn.ModuleList(blocks), "norm": nn.LayerNorm(d)})


def plain(model: nn.Module) -> None:
    """PSN with one stable sort per matrix."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            rows = parameter.detach().flatten(1).abs()
            rows.sort(dim=1, descending=True, stable=True).indices[:, :K].sort(dim=1)


def seconds(work: Callable[[], object], times: int = 3) -> str:
    """The least of a few, by the clock and by the processor."""
    clock, processor = [], []
    for _ in range(times):
        start, busy = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
    return f"{min(clock):8.2f} s {min(processor):8.2f} s"


def main(names: list[str]) -> None:
    """Print a table."""
    rules = [parse_rule(name) for name in names] or RULES_HERE
    assert {type(rule) for rule in rules} <= set(RULES)
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        model = vit().to(dtype)
        count = sum(p.numel() for p in model.parameters())
        print(f"{count / 1e6:.1f} million scalars, {dtype}, {torch.get_num_threads()} threads")
        print(f"  {'':24s} {'clock':>10s} {'processor':>10s}")
        scope = seconds(lambda model=model: select(model, BitFit()))
        print(f"  {'scope':24s} {scope}")
        for rule in rules:
            took = seconds(lambda model=model, rule=rule: select(model, rule))
            print(f"  {rule!r:24s} {took}")
        print(f"  {'a sort of each row':24s} {seconds(lambda model=model: plain(model), 1)}")


if __name__ == "__main__":
    main(sys.argv[1:])
