"""Architecture: which parts of a network the tasks share, apart from what the parts are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import nn

from accord.architectures.encoder import EncoderSpec, spelled
from accord.architectures.form import Form

Head = Callable[[Form], nn.Module]  # from the form of the features to a module called with (features, valid)


class Architecture(ABC):
    """How tasks share encoders, as a frozen dataclass whose ``repr`` is its spelling: ``hard``, ``mmoe(experts=4)``."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """A fresh model, ``model(x, valid=None) -> outputs by task``, initialised from PyTorch's global generator.

        Args:
            encoder: builds as many encoders as the architecture needs.
            inputs: the form of what goes in.
            heads: by task, what makes a head for the form of features that it gets.

        Raises:
            AccordError: if encoder and architecture do not fit.
        """

    def __repr__(self) -> str:
        return spelled(self)
