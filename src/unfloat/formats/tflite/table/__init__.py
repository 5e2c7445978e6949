"""The operator table, a family a file: Unfloat's instructions in TFLite's builtin operators, and the other way.

Kernels recompute multipliers from the scales in the file, so nothing numeric is decided here. An instruction that
TFLite cannot say raises `UnsayableError` with the reason. Found by scanning this folder; there is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from unfloat.formats.tflite.table._common import Writer


def _scan(role: str) -> dict[str, Writer]:
    found: dict[str, Writer] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), role, {})
    return found


WRITERS: Mapping[str, Writer] = _scan("WRITERS")
