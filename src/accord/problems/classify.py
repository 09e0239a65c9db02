"""What problems with classification tasks on one input have in common: the model's form, losses, accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accord.problems.problem import Batch, Metrics


class Branched(nn.Module):
    """One trunk for all tasks, one head for each.

    Args:
        trunk: (N, ...) -> (N, D).
        heads: by task, (N, D) -> (N, classes).
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(dict(heads))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Logits by task.

        Args:
            inputs: (N, ...).
        """
        shared = self.trunk(inputs)  # (N, D)
        return {task: head(shared) for task, head in self.heads.items()}  # (N, classes)


def trunk(size: int, layers: int, width: int) -> nn.Sequential:
    """Convolutions with stride 2 (16 channels, then 32), then ``width`` features that all tasks must share.

    Args:
        size: height and width of the images.
        layers: number of convolutions.
        width: D.

    Example:
        >>> trunk(12, 2, 16)(torch.zeros(5, 1, 12, 12)).shape
        torch.Size([5, 16])
    """
    parts: list[nn.Module] = []
    channels = 1
    for layer in range(layers):
        wider = 16 << min(layer, 1)
        parts += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU()]
        channels, size = wider, (size + 1) // 2
    # tanh: of so few features no task can spare one, and a ReLU that dies would be lost to all of them
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * size * size, width), nn.Tanh())


def losses(model: nn.Module, batch: Batch, tasks: Iterable[str]) -> dict[str, Tensor]:
    """Mean cross entropy by task."""
    logits = model(batch["image"])
    return {task: cross_entropy(logits[task], batch[task]) for task in tasks}


@torch.no_grad()
def metrics(model: nn.Module, batches: Iterable[Batch], tasks: Iterable[str]) -> Metrics:
    """Accuracy and mean cross entropy by task, as sums over all examples divided by their count."""
    tasks = tuple(tasks)
    right, loss, count = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0.0), 0
    for batch in batches:
        logits = model(batch["image"])
        count += len(batch["image"])
        for task in tasks:
            right[task] += int((logits[task].argmax(1) == batch[task]).sum())
            loss[task] += float(cross_entropy(logits[task], batch[task], reduction="sum"))
    return {task: {"accuracy": right[task] / count, "loss": loss[task] / count} for task in tasks}
