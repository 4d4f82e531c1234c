"""Run a benchmark: ``PYTHONPATH=tests python -m bench encode --encoders offline``."""

from __future__ import annotations

import sys

from bench.commands import bench
from iconicity.indexer.errors import IconicityError
from iconicity.indexer.text import echo_line

if __name__ == "__main__":
    try:
        bench.main(prog_name="bench")
    except IconicityError as e:
        echo_line(f"error: {e}", err=True)
        sys.exit(1)
