"""What every history encoder offers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from accord.tpp.batch import Batch


class Encoder(nn.Module):
    """From the events so far to one vector of size D: the history h from which the next event is predicted.

    Args:
        size: D.
    """

    size: int

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """(T, D): row r is the history after token r, a function of the tokens of its sequence up to r alone."""

    @abstractmethod
    def start(self, count: int, like: Tensor) -> tuple[Any, Tensor]:
        """State and history (N, D) of ``count`` sequences before their first event; ``like`` gives dtype and device."""

    @abstractmethod
    def advance(self, state: Any, gap: Tensor, mark: Tensor, age: Tensor) -> tuple[Any, Tensor]:
        """State and history (N, D) after one more event of each sequence, as ``forward`` would find it.

        Args:
            state: of the sequences.
            gap: (N,) time since the token before.
            mark: (N,).
            age: (N,) time since the window's start.
        """

    @abstractmethod
    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of some of the sequences, with repetition if wanted."""

    def blocks(self) -> dict[str, str]:
        """Parameter name -> the part it belongs to: ``embedding``, ``history`` (GRU, attention) or ``mlp``."""
        return {name: name.split(".", 1)[0] for name, _ in self.named_parameters()}

    def project_(self) -> None:
        """Put parameters back where constraints want them; called after every optimiser step."""
