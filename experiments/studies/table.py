"""All verdicts of ``summary.json`` as a Markdown table, on standard output."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Print it."""
    print("# Verdicts\n\nWritten by `table.py` from `summary.json`; each study's page says how they came about.\n")
    print("| Study | Claim | Verdict | Sets of seeds | Found, all seeds |\n|---|---|---|---|---|")
    for entry in json.loads((HERE / "summary.json").read_text(encoding="utf-8")):
        for claim in entry["claims"]:
            cells = (
                f"[{entry['study']}]({entry['study']}/index.html)",
                claim["statement"],
                f"**{claim['verdict']}**",
                ", ".join(one["verdict"] for one in claim["sets"]),
                claim["all seeds"],
            )
            print("|", " | ".join(cell.replace("|", "\\|") for cell in cells), "|")


if __name__ == "__main__":
    main()
