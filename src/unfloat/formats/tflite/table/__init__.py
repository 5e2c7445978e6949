"""The operator table, a family a file: Unfloat's instructions in TFLite's builtin operators, and the other way.

Kernels recompute multipliers from the scales in the file, so nothing numeric is decided here. An instruction that
TFLite cannot say raises `UnsayableError` with the reason; an operator that no instruction means, `UnreadableError`.
Found by scanning this folder; there is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from unfloat.formats.tflite.table._common import Reader, Writer


def _scan(role: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), role, {})
    return found


WRITERS: Mapping[str, Writer] = _scan("WRITERS")
READERS: Mapping[str, Reader] = _scan("READERS")
