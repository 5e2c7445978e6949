"""One operator family, one file: what it means. Found by scanning this folder; there is no list to edit."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from unfloat.ops._operator import Operator


class _Registry(Mapping[str, Operator]):
    """Operators by name. A family is imported when one of its operators is first asked for.

    A process that only runs a Program asks for a few, and should not start more slowly for the rest. Which family has
    an operator is seen in its file, which spells the name, as may one or two before it; where none does, and where the
    whole registry is gone through, all are imported.
    """

    def __init__(self) -> None:
        self._sources: dict[str, bytes] = {}
        self._found: dict[str, Operator] = {}
        self._whole = False

    def __getitem__(self, name: str) -> Operator:
        if name not in self._found:
            self._find(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _find(self, name: str) -> None:
        spelled = f'"{name}"'.encode(errors="replace")
        for family in _families():
            if spelled in self._source(family):
                self._found |= _import([family])
                if name in self._found:
                    return
        self._all()

    def _all(self) -> dict[str, Operator]:
        if not self._whole:
            self._found, self._whole = _import(_families()), True
        return self._found

    def _source(self, family: str) -> bytes:
        if family not in self._sources:
            with open(os.path.join(__path__[0], f"{family}.py"), "rb") as file:
                self._sources[family] = file.read()
        return self._sources[family]


@cache
def _families() -> tuple[str, ...]:
    """The modules of this folder, but for those that families share."""
    parts = [os.path.splitext(file) for file in sorted(os.listdir(__path__[0]))]
    return tuple(name for name, ending in parts if ending == ".py" and name.isidentifier() and not name.startswith("_"))


def _import(families: Iterable[str]) -> dict[str, Operator]:
    """The operators of some families, in order."""
    modules = [importlib.import_module(f"{__name__}.{family}") for family in families]
    return {operator.name: operator for module in modules for operator in module.OPERATORS}


REGISTRY: Mapping[str, Operator] = _Registry()
