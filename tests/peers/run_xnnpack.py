"""Run jobs in LiteRT as phones do: its default kernels, XNNPACK included. Executed like `run_litert.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import run_litert
from ai_edge_litert.interpreter import OpResolverType
from protocol import main

if __name__ == "__main__":
    main(lambda model, inputs: run_litert.run(model, inputs, OpResolverType.AUTO))
