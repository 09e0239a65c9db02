"""Models in which layers are made task-specific: plain, residual, recurrent, with attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from accord.architectures import GRU, Form, HardSharing, ResNet18, ViTTiny, vector

TASKS = ("depth", "edges", "light")


class Plain(nn.Module):
    """Operations between the modules, batch norm, and heads with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.second, self.third = nn.Linear(8, 8), nn.Linear(8, 8)
        self.shift = nn.Parameter(torch.randn(8))
        self.heads = nn.ModuleDict({task: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2)) for task in TASKS})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = functional.relu(self.norm(self.first(x))) + self.shift
        h = h + torch.tanh(self.second(h))
        h = self.third(h).view(len(x), 2, 4).transpose(1, 2).reshape(len(x), 8)
        return {task: head(h) for task, head in self.heads.items()}


class InPlace(nn.Module):
    """A residual block as torchvision writes it: ``out += identity`` and ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.down = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        out = self.bn(self.conv(x))
        out += self.down(x)
        h = self.relu(out).flatten(2).mean(2)
        return {task: head(h) for task, head in self.heads.items()}


class Recurrent(nn.Module):
    """Two GRUs; returns a tuple in the order of the tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lower, self.upper = nn.GRU(6, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in TASKS)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        h, _ = self.lower(self.embed(tokens))
        _, last = self.upper(h)
        return tuple(head(last[-1]) for head in self.heads)


class Attending(nn.Module):
    """PyTorch's own transformer encoder between an embedding and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.place = nn.Parameter(torch.randn(5, 8) * 0.1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        h = self.body(self.embed(tokens) + self.place).mean(1)
        return {task: head(h) for task, head in self.heads.items()}


@dataclass(frozen=True)
class Case:
    """A model, what it is called with, and layers of it."""

    make: object
    inputs: object
    layers: tuple[str, ...]


def _image() -> Tensor:
    return torch.randn(3, 3, 16, 16)


def _tokens() -> Tensor:
    return torch.randint(1, 11, (4, 5))


def _hard(encoder: object, form: Form) -> object:
    return lambda: HardSharing().build(encoder, form, {task: vector(2) for task in TASKS})


IMAGES, TOKENS = Form("map", 3, (16, 16)), Form("tokens", 11, (5,))
CASES = {
    "plain": Case(Plain, lambda: torch.randn(7, 6), ("second",)),
    "plain, two": Case(Plain, lambda: torch.randn(7, 6), ("norm", "third")),
    "in place": Case(InPlace, _image, ("conv",)),
    "in place, shortcut": Case(InPlace, _image, ("down.0",)),
    "stem": Case(InPlace, _image, ("stem.0",)),
    "gru": Case(Recurrent, _tokens, ("upper",)),
    "gru below": Case(Recurrent, _tokens, ("lower",)),
    "transformer": Case(Attending, _tokens, ("body.layers.1.linear1", "body.layers.2.self_attn")),
    "transformer, one projection": Case(Attending, _tokens, ("body.layers.1.self_attn.out_proj",)),
    "transformer, norms": Case(Attending, _tokens, ("body.layers.*.norm1",)),
    "resnet18": Case(_hard(ResNet18(width=4), IMAGES), _image, ("encoder.stages.2", "encoder.stages.3.0")),
    "vit": Case(_hard(ViTTiny(width=12, blocks=2, patch=8), IMAGES), _image, ("encoder.stages.2",)),
    "gru encoder": Case(_hard(GRU(width=8, embedding=6), TOKENS), _tokens, ("encoder.stages.1",)),
}
