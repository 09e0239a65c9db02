"""Watch: how far a training is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from accord.cli import show


class Watch:
    """A progress bar over epochs; where the output is no terminal, a line for some of them."""

    def __init__(self, epochs: int, losses: Sequence[float] = ()) -> None:
        self.total, self.done = epochs, len(losses)
        self.best = min(losses, default=float("inf"))
        console = show.console()
        self.lines = not console.is_terminal
        self.bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("[dim]elapsed"),
            TimeElapsedColumn(),
            TextColumn("[dim]at most"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=self.lines,
            transient=True,
        )
        self.task = self.bar.add_task("", total=epochs, completed=self.done)

    def __enter__(self) -> Watch:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.bar.stop()

    def epoch(self, line: Mapping[str, Any]) -> None:
        """One more epoch, with its line of the history."""
        self.done += 1
        found = line["validation"]
        self.best = min(self.best, found["joint"])
        text = f"validation NLL: time {found['time']:.2f}, mark {found['mark']:.2f}, best sum {self.best:.2f}"
        self.bar.update(self.task, completed=self.done, description=text)
        if self.lines and (self.done in (1, 2, 5) or self.done % 10 == 0 or self.done == self.total):
            print(f"epoch {line['epoch']} of at most {self.total}: {text} ({line['seconds']:.1f} s)", flush=True)
