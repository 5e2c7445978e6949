"""The frame of a file: what is read is what the safetensors library reads, and broken ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from unfloat.program import container

ARRAYS = {
    "bytes": np.arange(-3, 4, dtype=np.int8),
    "more bytes": np.arange(250, 256, dtype=np.uint8).reshape(2, 3),
    "words": np.arange(5, dtype=np.int16),
    "sums": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "wide": np.array([2**40], np.int64),
    "scales": np.array([0.5, 3e38], np.float32),
    "one": np.array(7, np.int32),
    "none": np.zeros((3, 0), np.int8),
}
METADATA = {"unfloat": "{}", "more": "said"}
CONTENT = bytes(save_arrays(ARRAYS, METADATA))
Header = dict[str, Any]


def read(content: bytes, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    path = folder / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        return container.read(file)


def frame(text: bytes, content: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + content


def framed(header: object, content: bytes, padding: int = 0) -> bytes:
    return frame(json.dumps(header).encode() + b" " * padding, content)


def split(content: bytes) -> tuple[Header, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def test_arrays_come_back_with_their_types_and_shapes(tmp_path: Path) -> None:
    arrays, metadata = read(CONTENT, tmp_path)
    assert metadata == METADATA
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert (arrays[name] == array).all()
        assert arrays[name].flags.aligned
        assert arrays[name].flags.c_contiguous


@pytest.mark.parametrize("size", [2**21 - 1, 2**21, 2**21 + 2**20 + 3])
def test_files_that_fill_huge_pages(size: int, tmp_path: Path) -> None:
    large = np.random.default_rng(size).integers(-128, 128, size, np.int8)
    arrays, _ = read(bytes(save_arrays({**ARRAYS, "large": large}, METADATA)), tmp_path)
    assert (arrays["large"] == large).all()
    assert (arrays["scales"] == ARRAYS["scales"]).all()


@pytest.mark.parametrize("padding", range(4))
def test_arrays_of_other_writers_need_not_be_aligned(padding: int, tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.int32)
    header = {
        "a": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "I32", "shape": [4], "data_offsets": [3, 19]},
    }
    arrays, _ = read(framed(header, b"\1\2\3" + numbers.tobytes(), padding), tmp_path)
    assert arrays["b"].tolist() == numbers.tolist()
    assert arrays["b"].flags.aligned


def changed(name: str, **fields: object) -> bytes:
    header, content = split(CONTENT)
    header[name].update(fields)
    return framed(header, content)


def without(field: str) -> bytes:
    header, content = split(CONTENT)
    del header["words"][field]
    return framed(header, content)


BEGIN, END = split(CONTENT)[0]["words"]["data_offsets"]
BROKEN = {
    "nothing": b"",
    "a length alone": CONTENT[:8],
    "a header longer than the file": (len(CONTENT)).to_bytes(8, "little") + CONTENT[8:],
    "a header of most bytes there can be": b"\xff" * 8 + CONTENT[8:],
    "a header that is cut off": CONTENT[:60],
    "a header that is a list": framed([1, 2], b""),
    "a header in another encoding": frame("{}".encode("utf-16")),
    "a header that nests without end": frame(b"[" * 100_000),
    "bytes cut off": CONTENT[:-1],
    "bytes behind the last array": CONTENT + b"\0",
    "an array past the end": changed("words", data_offsets=[BEGIN, len(CONTENT)]),
    "an array that overlaps another": changed("words", data_offsets=[BEGIN - 2, END - 2]),
    "a hole before an array": changed("words", data_offsets=[BEGIN + 2, END + 2]),
    "offsets the other way round": changed("words", data_offsets=[END, BEGIN]),
    "a negative offset": changed("words", data_offsets=[-2, END]),
    "three offsets": changed("words", data_offsets=[BEGIN, END, END]),
    "offsets that are no integers": changed("words", data_offsets=[float(BEGIN), float(END)]),
    "offsets that are true": changed("words", data_offsets=[True, END]),
    "a shape for fewer bytes": changed("words", shape=[4]),
    "a shape whose product wraps": changed("words", shape=[5, 2**62, 4]),
    "a negative size": changed("words", shape=[-5, -1]),
    "too many sizes": changed("words", shape=[1] * 40 + [5]),
    "a shape that is no list": changed("words", shape=5),
    "a shape that is a text": changed("one", shape=""),
    "metadata that are no strings": framed({"__metadata__": {"unfloat": "{}", "more": [1]}}, b""),
    "metadata that are a list": framed({"__metadata__": ["unfloat"]}, b""),
    "half a surrogate pair as a name": frame(b'{"\\ud800":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}'),
    "a type that no Program holds": changed("words", dtype="F16"),
    "a type that is no name": changed("words", dtype=[]),
    "an array without a shape": without("shape"),
    "an array without offsets": without("data_offsets"),
    "an entry that is no record": framed({"a": 3}, b""),
    "two arrays of one name": frame(b'{"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},"a":{}}'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, RecursionError)):
        read(BROKEN[name], tmp_path)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_whatever_is_read_is_what_the_library_reads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A byte of the frame changed: both refuse the file, or this one, which allows less, or both read the same."""
    damaged = bytearray(CONTENT)
    place = data.draw(st.integers(0, len(CONTENT) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        found, _ = read(bytes(damaged), tmp_path_factory.getbasetemp())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    try:
        required = load_arrays(bytes(damaged))
    except SafetensorError as error:
        pytest.fail(f"only the library refuses {bytes(damaged)!r}: {error}")
    assert found.keys() == required.keys()
    for name, array in required.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
