"""Does K x P fit? The one question that decides between engines."""

from __future__ import annotations

from pathlib import Path

import torch

from accord.sharing import Sharing


def fits(sharing: Sharing, tasks: int) -> bool:
    """Whether all task gradients take at most half of the device's free memory.

    Args:
        sharing: the shared parameters.
        tasks: K.
    """
    needed = tasks * sum(p.numel() * p.element_size() for p in sharing.shared)
    free = available(sharing.shared[0].device) if sharing.shared else None
    return free is None or needed <= free / 2


def available(device: torch.device) -> int | None:
    """Free memory in bytes, or None where it cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")  # Linux; other systems do not say what could be freed
    if device.type == "cpu" and meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None
    return None
