"""Compiled models: several backward passes through one graph need its saved buffers to stay whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from accord.errors import AccordError

log = logging.getLogger("accord")
DONATED = "torch._functorch.config.donated_buffer"


def keep_buffers(model: nn.Module) -> None:
    """Switch buffer donation off before a compiled model runs for the first time.

    ``torch.compile`` lets a backward kernel overwrite saved tensors that it believes it sees for the last time
    ("donated buffers"). That is compiled in: the switch must be set before the first forward pass, and setting it
    later would only silence torch's check and give wrong gradients from the second task on.

    Args:
        model: nothing happens unless a part of it is compiled.
    """
    if any(getattr(m, "_compiled_call_impl", None) is not None or hasattr(m, "_orig_mod") for m in model.modules()):
        import torch._functorch.config as config  # costs an import of the compiler's settings, hence not at the top

        if config.donated_buffer:
            config.donated_buffer = False
            log.info("set %s=False: per-task gradients pass through a compiled graph more than once", DONATED)


@contextmanager
def explained() -> Iterator[None]:
    """Say what to do when a graph was compiled with donated buffers all the same.

    Raises:
        AccordError: in place of torch's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if "donated buffer" not in str(error):
            raise
        raise AccordError(
            f"a compiled part of the graph gives its saved buffers away in the backward pass. Set {DONATED} = False "
            "before its first forward pass (a Balancer or Monitor that is built before does so for a compiled module)."
        ) from error
