"""One operator family, one file: what it means. Found by scanning this folder; there is no list to edit."""

from __future__ import annotations

import importlib
import os

from unfloat.ops._operator import Operator


def _scan() -> dict[str, Operator]:
    registry: dict[str, Operator] = {}
    for file in sorted(os.listdir(__path__[0])):
        name, ending = os.path.splitext(file)
        if ending == ".py" and name.isidentifier() and not name.startswith("_"):
            for operator in importlib.import_module(f"{__name__}.{name}").OPERATORS:
                registry[operator.name] = operator
    return registry


REGISTRY: dict[str, Operator] = _scan()
