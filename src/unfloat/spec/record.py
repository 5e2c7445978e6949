"""Records: what frozen dataclasses are, with methods that all of them share.

`dataclass(frozen=True)` writes and compiles seven methods for each class, and its module takes a millisecond to import.
For the classes that a process needs to run a Program that was a quarter of its start, beside NumPy's own
(docs/results/start.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        """Say nothing: it speaks to type checkers, and `typing` has it from Python 3.11 on."""
        return lambda cls: cls


class _Signature:
    """What `inspect.signature` says of a record: its fields. Made when it is asked for."""

    def __get__(self, instance: object, cls: type[Record]) -> Any:
        from inspect import Parameter, Signature

        parameters = [
            Parameter(
                name, Parameter.POSITIONAL_OR_KEYWORD, default=cls._defaults.get(name, Parameter.empty), annotation=kind
            )
            for name, kind in cls._types.items()
        ]
        return Signature(parameters, return_annotation=None)


class _Fields:
    """What `dataclasses.replace` and its like ask a record for. Made when it is first asked for."""

    def __get__(self, instance: object, cls: Any) -> Any:
        return _fields_of(cls)


@cache
def _fields_of(cls: Any) -> Any:
    from dataclasses import field, make_dataclass

    own = []
    for name, kind in cls._types.items():
        made = partial(cls._defaults.__getitem__, name)  # a plain default would have to be hashable
        own.append((name, kind, field(default_factory=made) if name in cls._defaults else field()))
    dataclass: Any = make_dataclass(cls.__name__, own, init=False, repr=False, eq=False)
    return dataclass.__dataclass_fields__


@dataclass_transform(frozen_default=True)
class Record:
    """What derives from it has the fields it annotates, is compared by value and never changed.

    A default belongs to all instances, so that it must be one that never changes either.
    """

    __signature__: ClassVar[Any] = _Signature()
    __dataclass_fields__: ClassVar[Any] = _Fields()
    __match_args__: ClassVar[tuple[str, ...]] = ()
    _types: ClassVar[dict[str, Any]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        cls._types = {**cls._types, **cls.__annotations__}
        cls.__match_args__ = tuple(cls._types)  # type: ignore[misc]  # which takes it to be fixed once and for all
        cls._defaults = {name: getattr(cls, name) for name in cls.__match_args__ if hasattr(cls, name)}
        if any(isinstance(default, (list, dict, set)) for default in cls._defaults.values()):
            raise TypeError(f"{cls.__qualname__}: a default belongs to all records, and must be one that never changes")

    def __init__(self, *values: Any, **named: Any) -> None:
        state = self.__dict__  # which `__setattr__` does not guard
        if named or len(values) != len(self.__match_args__):
            state.update(self._defaults)
            state.update(named)
            self._require_each_once(values, named)
        state.update(zip(self.__match_args__, values, strict=False))
        self.__post_init__()

    def _require_each_once(self, values: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Raise TypeError unless every field has been given, or has a default."""
        placed = self.__match_args__[: len(values)]
        twice = not named.keys().isdisjoint(placed)
        if twice or len(values) > len(placed) or self.__dict__.keys() | placed != self._types.keys():
            raise TypeError(
                f"{type(self).__qualname__}() takes {', '.join(self.__match_args__)}, each once, those with defaults if need "
                f"be; found {len(values)} values and {', '.join(named) or 'no names'}"
            )

    def __post_init__(self) -> None:
        """Refuse what the record may not hold; for those that have such rules."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple([self.__dict__[name] for name in self.__match_args__])

    def __repr__(self) -> str:
        return (
            f"{type(self).__qualname__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in self.__match_args__)})"
        )


class Content(Record):
    """A record that holds arrays, or mappings to them: equal to one that holds the same, to the byte and the type."""

    def __eq__(self, other: object) -> bool:
        return _same(self._values(), other._values()) if type(self) is type(other) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of all that holds what could be changed


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if hasattr(a, "tobytes") and hasattr(b, "tobytes"):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return bool(a == b)
