"""How each operator's instruction fills its kernel's parameters; the meaning of every number is in kernel.h.

One file a family, found by scanning this folder; there is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from unfloat.formats.c.layer import Emitter


def _scan() -> dict[str, Emitter]:
    found: dict[str, Emitter] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{module.name}").EMITTERS
    return found


EMITTERS: Mapping[str, Emitter] = _scan()
