"""Two real processes: equal masks, equal values, only the selection exchanged."""

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
from accord.sparse.training import SparseTraining

from models import HardSharing

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


class Losses(nn.Module):
    """DistributedDataParallel wants a forward pass."""

    def __init__(self):
        super().__init__()
        self.net = HardSharing().double()

    def forward(self, x):
        return self.net.losses(x)


def data():
    return torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()


def train(x, method, order, wrap=lambda model: model, reduce=None):
    """Three steps with looks; the sparse training comes before the wrapper."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Losses()
    training = SparseTraining(model, "PSN(k=2)", heads="net.heads", order=order, look=1)
    training.agree()
    wrapped = wrap(model)
    optimizer = torch.optim.SGD(training.parameters(), 0.1)
    balancer = Balancer(wrapped, method, reduce=reduce)
    training.attach(balancer)
    for _ in range(3):
        optimizer.zero_grad()
        balancer.backward(wrapped(x))
        optimizer.step()
    training.verify()
    return training


CASES = {"Sum()": "mask-then-combine", "UPGrad()": "combine-then-mask"}
RANK = textwrap.dedent(
    """
    import sys
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from test_ddp_sparse import CASES, HardSharing, SparseTraining, data, train

    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def average(tensors):
        for t in tensors:
            dist.all_reduce(t)
            t /= 2

    for i, (method, order) in enumerate(CASES.items()):
        own = data()[rank * 8 : rank * 8 + 8]
        training = train(own, method, order, DistributedDataParallel, None if method == "Sum()" else average)
        state = {n: p.detach() for n, p in training.named_parameters().items()}
        torch.save(state | {"gramians": torch.as_tensor(training.record().gramians)}, f"{folder}/{i}{rank}.pt")
    torch.manual_seed(rank)
    try:
        SparseTraining(HardSharing(), "PSN(k=2)", heads="heads").agree()
    except ValueError as error:
        print(error)
    dist.destroy_process_group()
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the ranks wrote, and what they said."""
    folder, here = tmp_path_factory.mktemp("ranks"), Path(__file__).parent
    paths = [str(here), str(here.parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GLOO_SOCKET_IFNAME": "lo"}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", RANK]
    processes = [subprocess.Popen([*command, str(r), str(folder)], env=environment, **pipe) for r in range(2)]
    for rank, process in enumerate(processes):
        out, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        (folder / f"said{rank}").write_text(out)
    return folder


@pytest.mark.parametrize("method", CASES)
def test_two_ranks_train_as_one_process_on_the_joined_batch(folder, method):
    i = list(CASES).index(method)
    first, second = (torch.load(folder / f"{i}{rank}.pt", weights_only=True) for rank in range(2))
    looked = first.pop("gramians"), second.pop("gramians")
    assert all(torch.equal(first[n], second[n]) for n in first)
    training = train(data(), method, CASES[method])
    for n, p in training.named_parameters().items():
        torch.testing.assert_close(first[n], p.detach(), rtol=1e-6, atol=1e-9)
    if method != "Sum()":  # with reduce= the looks are at averaged gradients, too
        assert torch.equal(*looked)
        expected = torch.as_tensor(training.record().gramians)
        torch.testing.assert_close(looked[0], expected, rtol=1e-6, atol=1e-9)


def test_ranks_that_disagree_are_told(folder):
    for rank in range(2):
        assert "ranks [1] have another mask than rank 0" in (folder / f"said{rank}").read_text()
