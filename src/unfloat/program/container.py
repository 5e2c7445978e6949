"""The frame of a `.unfloat` file, safetensors: a JSON header that says where each array lies, then their bytes.

Written by the safetensors library. Read here, where the bytes come into memory once and the arrays are views of them:
the library copies each, twice as slowly (docs/results/speed.md, the start of a process). As there, arrays must lie side
by side, none over another, and be the whole of the file together.
"""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from io import BufferedReader

MAX_HEADER = 10**8  # bytes, as the library has it
MAX_SIZES = 8  # of an array; a Program has fewer
_DTYPES: dict[str, np.dtype[Any]] = {
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
}
_HUGE_PAGE = 1 << 21
"""Bytes. NumPy asks the system for pages of this size in arrays of twice as many or more. First touching the bytes of a
network of 3.5 MB in pages of 4 KiB takes longer than copying them."""


def read(file: BufferedReader) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays by name, views of one block of memory, and the metadata.

    Args:
        file: At its beginning.

    Raises:
        ValueError: It is no safetensors file, or cut off, or an array of it is not of a type that a Program may hold.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ValueError(
            f"it begins with the length of a header, {length}, that a file of {size} bytes cannot have: it is of another "
            "kind, or was cut off"
        )
    header = json.loads(file.read(length).decode(), object_pairs_hook=once_each)
    if type(header) is not dict:
        raise ValueError("required a header of names, found another value")
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or set(map(type, metadata.values())) - {str}:
        raise ValueError(f"required metadata of strings, found {metadata!r:.80}")
    places = _places(header, size - 8 - length)
    content = _block(size - 8 - length)
    if file.readinto(content) != content.size:  # type: ignore[arg-type]  # an array is a buffer
        raise ValueError("the file became shorter while it was read")
    return {name: _view(content[begin:end], dtype, shape) for name, dtype, shape, begin, end in places}, metadata


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, none of whose names occurs twice: readers would differ on which counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"two fields of the same name among {sorted(found)[:8]}")
    return found


def _block(size: int) -> np.ndarray:
    """Bytes that lie on huge pages where there are many."""
    if size < _HUGE_PAGE:
        return np.empty(size, np.uint8)
    room = np.empty(size + _HUGE_PAGE, np.uint8)
    begin = -room.__array_interface__["data"][0] % _HUGE_PAGE
    return room[begin : begin + size]


def _places(header: dict[str, Any], size: int) -> list[tuple[str, np.dtype[Any], list[int], int, int]]:
    """Name, type, shape, first byte and end of each array; in order they must be the file's `size` bytes."""
    last = 0
    places = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        name.encode()  # which half a surrogate pair is no name for
        numbers = (*shape, begin, end)
        if (
            type(shape) is not list
            or set(map(type, numbers)) != {int}
            or min(numbers) < 0
            or max(numbers) > size
            or len(shape) > MAX_SIZES
        ):
            raise ValueError(
                f"{name}: required at most {MAX_SIZES} sizes and two offsets, none past the {size} bytes that there are, "
                f"found {shape!r:.80} at {begin!r:.20} to {end!r:.20}"
            )
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{name}: required an array of {', '.join(_DTYPES)}, found {entry['dtype']!r:.80}")
        if begin != last or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name}: required the bytes of {shape} from {last} on, found those from {begin} to {end}")
        places.append((name, dtype, shape, begin, end))
        last = end
    if last != size:
        raise ValueError(f"required arrays of {size} bytes together, found {last}")
    return places


def _view(content: np.ndarray, dtype: np.dtype[Any], shape: list[int]) -> np.ndarray:
    """An array of some bytes. Native code wants its numbers aligned: the library's writer sees to it, others may not."""
    view = content.view(dtype).reshape(shape)
    return view if view.flags.aligned else view.copy()
