"""Two real processes: what ``reduce=`` promises before `accord.parallel` comes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from accord import Balancer

from models import HardSharing

RANK = textwrap.dedent(
    """
    import sys
    import torch
    import torch.distributed as dist
    from models import HardSharing
    from accord import Balancer

    rank, folder, method, engine = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = HardSharing().double()
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()[rank * 8 : rank * 8 + 8]

    def average(tensors):
        for t in tensors:
            dist.all_reduce(t)
            t /= 2

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    balancer = Balancer(model, method, engine=engine, reduce=average)
    for _ in range(5):
        optimizer.zero_grad()
        balancer.backward(model.losses(x))
        optimizer.step()
    torch.save([p.detach() for p in model.parameters()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()
    """
)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize(("method", "engine"), [("UPGrad()", "segmented"), ("GradDrop()", "stacked")])
def test_two_ranks_stay_equal_and_train_as_one_process_on_the_joined_batch(tmp_path, method, engine):
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path), method, engine], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    torch.manual_seed(0)
    model = HardSharing().double()
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    balancer = Balancer(model, method, engine=engine)
    for _ in range(5):
        optimizer.zero_grad()
        balancer.backward(model.losses(x))
        optimizer.step()
    for a, b in zip(first, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-9)
