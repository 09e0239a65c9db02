"""Prints a line of JSON per finished run below a folder, trials of a search included: configuration and result."""

import json
import sys
from pathlib import Path

for result in sorted(Path(sys.argv[1]).rglob("result.json")):
    config = json.loads(result.with_name("config.json").read_text())
    trial = "search" in result.relative_to(sys.argv[1]).parts
    print(json.dumps({"trial": trial, "config": config, "result": json.loads(result.read_text())}))
