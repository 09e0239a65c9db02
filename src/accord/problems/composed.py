"""Problems whose model is an architecture around an encoder, both chosen by their spelling."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import nn

from accord.architectures import Form, Head, parse_architecture, parse_encoder
from accord.problems import seeds
from accord.problems.problem import Problem


@dataclass(frozen=True, repr=False)
class ComposedProblem(Problem):
    """A problem that says what goes in and which heads it wants; the rest of the model is a matter of its settings.

    Args:
        architecture: what the tasks share, such as ``hard`` or ``mmoe(experts=4)``; see ``accord.architectures``.
        encoder: what they share it of, such as ``mlp`` or ``conv(channels=8)``.
    """

    architecture: str = "hard"
    encoder: str = "mlp"

    def __post_init__(self) -> None:
        self.check()
        # one spelling, one folder
        object.__setattr__(self, "architecture", repr(parse_architecture(self.architecture)))
        object.__setattr__(self, "encoder", repr(parse_encoder(self.encoder)))

    @abstractmethod
    def inputs(self) -> Form:
        """The form of what goes into the model."""

    @abstractmethod
    def heads(self) -> dict[str, Head]:
        """By task, what makes its head."""

    def model(self, seed: int) -> nn.Module:
        """The architecture around the encoder, ``model(x, valid=None) -> outputs by task``."""
        with seeds.seeded(seed, self.name, "model"):
            return parse_architecture(self.architecture).build(parse_encoder(self.encoder), self.inputs(), self.heads())
