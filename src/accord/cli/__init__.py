"""The command line: verbs that parse, call and print. What it needs is imported only when it runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from accord.errors import AccordError
from accord.tpp.errors import TPPError

EXTRA = (
    "typer", "rich", "polars", "pydantic", "plotly", "jinja2", "matplotlib", "sklearn", "scipy", "safetensors",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """``app``, the typer application; made on demand, because typer belongs to an extra."""
    if name == "app":
        return importlib.import_module("accord.cli.commands").app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a mistake gives one line on standard error.

    Args:
        arguments: by default those of the process.

    Returns:
        The exit code: 0, 2 for a mistake, 130 after Ctrl-C.
    """
    try:
        commands = importlib.import_module("accord.cli.commands")
        return int(commands.call(sys.argv[1:] if arguments is None else list(arguments)) or 0)
    except (AccordError, TPPError) as error:
        return _mistake(str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRA:
            raise
        return _mistake(f"the command line needs {missing}: pip install 'accord[bench]'")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _mistake(text: str) -> int:
    print(f"accord: {text}", file=sys.stderr)
    return 2
