"""Tables as a user has them, and the form of every mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DATES = ["--sequence", "user", "--time", "at", "--mark", "page"]
FROM_FILE = ["--option", "sequence=user", "--option", "time=at", "--option", "mark=page"]


def table(path: Path, seed: int, users: int = 30, pages: tuple[str, ...] = ("help", "home", "shop")) -> Path:
    """Clicks of some users since 1970-01-01, in seconds."""
    rng = np.random.default_rng(seed)
    lines = ["user,at,page"]
    for user in range(users):
        at = 1.3e9 + np.cumsum(rng.exponential(600.0, size=int(rng.integers(4, 9)))).round()
        lines += [f"u{user},{t:.0f},{rng.choice(pages)}" for t in at]
    path.write_text("\n".join(lines) + "\n")
    return path


def mistake(outcome: tuple[int, str, str]) -> str:
    code, _, text = outcome
    assert code == 2
    assert 1 <= text.count("\n") <= 2, text
    assert text.startswith("accord: ")
    assert "Traceback" not in text
    return text.strip()
