"""Records: frozen dataclasses whose methods are shared.

`dataclass(frozen=True)` writes and compiles seven methods for each class. For the classes that a process needs to run a
Program that was a quarter of its start, beside NumPy's own (docs/results/start.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        """Say nothing: it speaks to type checkers, and `typing` has it from Python 3.11 on."""
        return lambda cls: cls


class _Signature:
    """What `inspect.signature` says of a record: its fields. Made when it is asked for."""

    def __get__(self, instance: object, cls: Any) -> Any:
        import inspect

        empty = inspect.Parameter.empty
        parameters = []
        for own in fields(cls):
            made = own.default_factory() if own.default_factory is not MISSING else empty
            default = made if own.default is MISSING else own.default
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            parameters.append(inspect.Parameter(own.name, kind, default=default, annotation=own.type))
        return inspect.Signature(parameters, return_annotation=None)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record:
    """What derives from it is a dataclass of the fields it annotates, compared by value and never changed."""

    __signature__: ClassVar[Any] = _Signature()
    _names: ClassVar[tuple[str, ...]]
    _known: ClassVar[frozenset[str]]
    _defaults: ClassVar[dict[str, Any]]
    _factories: ClassVar[dict[str, Callable[[], Any]]]

    def __init_subclass__(cls) -> None:
        dataclass(init=False, repr=False, eq=False)(cls)
        own = fields(cls)  # type: ignore[arg-type]  # it is a dataclass since the line above
        cls._names = tuple(f.name for f in own)
        cls._known = frozenset(cls._names)
        cls._defaults = {f.name: f.default for f in own if f.default is not MISSING}
        cls._factories = {f.name: f.default_factory for f in own if f.default_factory is not MISSING}

    def __init__(self, *values: Any, **named: Any) -> None:
        state = self.__dict__  # which `__setattr__` does not guard
        state.update(self._defaults)
        state.update(zip(self._names, values, strict=False))
        state.update(named)
        for name, make in self._factories.items():
            if name not in state:
                state[name] = make()
        given = len(values) + len(named)
        twice = not named.keys().isdisjoint(self._names[: len(values)])
        if state.keys() != self._known or given > len(state) or twice:
            raise TypeError(self._wrong_arguments(values, named))
        self.__post_init__()

    def _wrong_arguments(self, values: tuple[Any, ...], named: dict[str, Any]) -> str:
        return (
            f"{type(self).__qualname__}() takes {', '.join(self._names)}, each once, those with defaults if need be; "
            f"found {len(values)} values and {', '.join(named) or 'no names'}"
        )

    def __post_init__(self) -> None:
        """Refuse what the record may not hold; for those that have such rules."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple([self.__dict__[name] for name in self._names])

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in self._names)})"
