"""Float `.tflite` files: read into a Graph through the same operator table, and quantized."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import unfloat
from unfloat.formats.tflite.encode import encode
from unfloat.formats.tflite.model import Field, TfModel, TfOperator, TfTensor
from unfloat.formats.tflite.read_float import read
from unfloat.spec.errors import InvalidProgramError, UnsupportedError

SAME: Mapping[str, Field] = {"Padding": ("Padding", "SAME"), "StrideH": 1, "StrideW": 1}
RELU6: Mapping[str, Field] = {"FusedActivationFunction": ("ActivationFunctionType", "RELU6")}


def small_file(user: str = "x") -> bytes:
    """A convolution with ReLU6, a constant added, a mean, a fully connected layer, a bound from below."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(0, 0.3, (4, 3, 3, 2)),
        "b": rng.normal(0, 0.1, 4),
        "c": rng.normal(0, 0.3, 4),
        "v": rng.normal(0, 0.5, (3, 4)),
        "low": np.array(-0.25),
    }
    tensors = [
        TfTensor(name, array.shape, "float32", None, array.astype(np.float32)) for name, array in constants.items()
    ]
    tensors.append(TfTensor("axes", (2,), "int32", None, np.array([1, 2], np.int32)))
    shapes = {"x": (1, 6, 5, 2), "h": (1, 6, 5, 4), "s": (1, 6, 5, 4), "m": (1, 4), "f": (1, 3), "y": (1, 3)}
    tensors += [TfTensor(name, shape, "float32") for name, shape in shapes.items()]
    operators = (
        TfOperator("CONV_2D", 1, ("x", "w", "b"), ("h",), "Conv2DOptions", {**SAME, **RELU6}),
        TfOperator("ADD", 1, ("h", "c"), ("s",), "AddOptions", {}),
        TfOperator("MEAN", 1, ("s", "axes"), ("m",), "ReducerOptions", {}),
        TfOperator("FULLY_CONNECTED", 1, ("m", "v", None), ("f",), "FullyConnectedOptions", {}),
        TfOperator("MAXIMUM", 1, ("f", "low"), ("y",), "MaximumMinimumOptions", {}),
    )
    return encode(TfModel({t.name: t for t in tensors}, operators, ((user, "x"),), (("y", "y"),)), "a test")


def reference(x: np.ndarray) -> np.ndarray:
    """What the file above computes, in NumPy."""
    rng = np.random.default_rng(0)
    w, b, c, v = (rng.normal(0, s, d) for s, d in ((0.3, (4, 3, 3, 2)), (0.1, 4), (0.3, 4), (0.5, (3, 4))))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    h = np.clip(np.einsum("nhwcij,oijc->nhwo", windows, w) + b, 0, 6)
    return np.maximum((h + c).mean((1, 2)) @ v.T, -0.25)


def test_a_float_file_is_quantized(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_file())
    batches = [np.random.default_rng(k).normal(0, 1, (16, 6, 5, 2)).astype(np.float32) for k in range(4)]
    program = unfloat.quantize(path, batches)
    assert [i.op for i in program.instructions] == [
        "conv2d",
        "add",
        "mean",
        "fully_connected",
    ]  # the bound is its clamp
    found, expected = program.compile()(batches[0]), reference(batches[0])
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("user", ["keras_tensor", "h", "y"])
def test_a_files_users_name_their_input(user: str, tmp_path: Path) -> None:
    """As converters write it: the signature's name, the tensor has its own; names of other tensors too."""
    path = tmp_path / "net.tflite"
    path.write_bytes(small_file(user))
    x = np.random.default_rng(0).normal(0, 1, (16, 6, 5, 2)).astype(np.float32)
    program = unfloat.quantize(path, [x])
    assert [port.name for port in program.inputs] == [user]
    path.write_bytes(small_file())
    np.testing.assert_array_equal(program.compile()(x), unfloat.quantize(path, [x]).compile()(x))


def test_the_graph_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_file())
    graph = read(path)
    assert [node.op for node in graph.nodes if node.inputs] == ["conv2d", "add", "mean", "fully_connected", "rescale"]
    assert graph.inputs[0].shape == (-1, 6, 5, 2)
    np.testing.assert_array_equal(graph.constants["h.weight"].shape, (4, 3, 3, 2))


def test_unknown_operators_are_listed(tmp_path: Path) -> None:
    tensors = {name: TfTensor(name, (1, 4), "float32") for name in ("x", "a", "y")}
    operators = tuple(
        TfOperator(builtin, 1, (source,), (made,), f"{builtin.title()}Options", {})
        for builtin, source, made in (("COS", "x", "a"), ("EXP", "a", "y"))
    )
    path = tmp_path / "net.tflite"
    path.write_bytes(encode(TfModel(tensors, operators, (("x", "x"),), (("y", "y"),)), "a test"))
    with pytest.raises(UnsupportedError) as caught:
        unfloat.quantize(path, [np.zeros((1, 4), np.float32)])
    assert ["COS" in p for p in caught.value.problems] == [True, False]
    assert caught.value.problems[1].endswith("try: train it with ReLU, SiLU or hard-swish")


def test_what_is_no_float_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_file()[:100])
    with pytest.raises(InvalidProgramError, match=r"net\.tflite"):
        unfloat.quantize(path, [np.zeros((1, 6, 5, 2), np.float32)])
    with pytest.raises(UnsupportedError, match="suffix"):
        unfloat.quantize(tmp_path / "net.onnx", [np.zeros((1, 6, 5, 2), np.float32)])


@pytest.mark.data
def test_a_quantized_file_is_told_apart(data_folder: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"unfloat\.load reads quantized files"):
        unfloat.quantize(data_folder / "tflite" / "hello_world_int8.tflite", [np.zeros((1, 1), np.float32)])


@pytest.mark.data
def test_a_public_float_model_is_quantized(data_folder: Path) -> None:
    """On the pictures that its makers' int8 file is for: as many right, within a few."""
    with np.load(data_folder / "mlperf_tiny" / "vww_like_coco_96.npz") as file:
        x, y = (file["x"] / 255).astype(np.float32), file["y"]
    program = unfloat.quantize(data_folder / "tflite" / "vww_96_float.tflite", [x[:64]])
    makers = unfloat.load(data_folder / "tflite" / "vww_96_int8.tflite")
    right, theirs = (int((p.compile()(x).argmax(1) == y).sum()) for p in (program, makers))
    assert right >= theirs - 5
