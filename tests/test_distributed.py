"""Two real processes: what ``reduce=`` promises before `accord.parallel` comes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from accord import Balancer
from accord.rows import Reduce

from models import HardSharing

STEPS = 5


def train(x: torch.Tensor, method: str, engine: str, refresh: int, parts: int, reduce: Reduce | None) -> nn.Module:
    """A few steps, each on micro-batches; what wants a second batch gets a rank's own part of it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = HardSharing().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    balancer = Balancer(model, method, engine=engine, refresh=refresh, reduce=reduce)
    for _ in range(STEPS):
        optimizer.zero_grad()
        if balancer.method.needs_second_batch:
            balancer.backward(model.losses(x), second=model.losses(x.flip(1)))
        else:
            for i, part in enumerate(x.chunk(parts)):
                losses = {name: loss / parts for name, loss in model.losses(part).items()}
                balancer.backward(losses, accumulate=i + 1 < parts)
        optimizer.step()
    return model


def data() -> torch.Tensor:
    return torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()


CASES = [
    ("UPGrad()", "segmented", 1, 1),
    ("GradDrop()", "stacked", 1, 1),
    ("UPGrad()", "stacked", 3, 1),  # kept weights
    ("UPGrad()", "stacked", 1, 2),  # micro-batches
    ("GradVac()", "stacked", 1, 1),  # block by block
    ("MoDo(gamma=0.1)", "stacked", 1, 1),  # two batches
]
RANK = textwrap.dedent(
    """
    import sys
    import torch
    import torch.distributed as dist
    from test_distributed import CASES, data, train

    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def average(tensors):
        for t in tensors:
            dist.all_reduce(t)
            t /= 2

    for i, case in enumerate(CASES):
        model = train(data()[rank * 8 : rank * 8 + 8], *case, average)
        torch.save([p.detach() for p in model.parameters()], f"{folder}/{i}{rank}.pt")
    dist.destroy_process_group()
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two ranks wrote, who train all cases one after the other: most of a rank's life is spent on imports."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    folder = tmp_path_factory.mktemp("ranks")
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_two_ranks_stay_equal_and_train_as_one_process_on_the_joined_batch(folder, case):
    i = CASES.index(case)
    first, second = (torch.load(folder / f"{i}{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    model = train(data(), *case, None)
    for a, b in zip(first, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-9)
