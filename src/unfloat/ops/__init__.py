"""One operator family, one file: what it means. Found by scanning this folder; there is no list to edit."""

from __future__ import annotations

import importlib
import pkgutil

from unfloat.ops._operator import Operator


def _scan() -> dict[str, Operator]:
    registry: dict[str, Operator] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            for operator in importlib.import_module(f"{__name__}.{module.name}").OPERATORS:
                registry[operator.name] = operator
    return registry


REGISTRY: dict[str, Operator] = _scan()
