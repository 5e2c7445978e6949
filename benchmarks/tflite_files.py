"""What is needed of other people's `.tflite` files: float weights, and how the border is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unfloat.spec.qparams import QParams

Floats = NDArray[np.float32]

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Linear:
    """A linear operator of a float file.

    Attributes:
        name: The weight tensor's name.
        operator: One of `LINEAR`.
        weight: OHWI, 1HWO or OI, as the operator has it.
        bias: (O,).
    """

    name: str
    operator: str
    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class Border:
    """A file's only input or output.

    Attributes:
        shape: Of one sample, the batch's 1 included.
        label: What its codes mean; None where it is float32.
    """

    shape: tuple[int, ...]
    label: QParams | None


@torch.no_grad()
def load_linear(model: nn.Module, path: Path) -> None:
    """Copy a file's weights and biases into a model's convolutions and linear layers, in order.

    Args:
        model: Changed in place; its convolutions and linear layers are registered in the order of computation.
        path: A float `.tflite` file, see `linear_operators`. A 1 x 1 convolution may serve a linear layer.

    Raises:
        ValueError: The counts differ, or the shapes of a pair do.
    """
    operators = linear_operators(path)
    modules = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    if len(modules) != len(operators):
        raise ValueError(f"the model has {len(modules)} linear layers, {path} {len(operators)}: not the same network")
    for (name, module), operator in zip(modules.items(), operators, strict=True):
        weight = _as_torch(operator)
        if isinstance(module, nn.Linear) and weight.shape[2:] == (1, 1):
            weight = weight[:, :, 0, 0]
        if module.bias is None or module.weight.shape != weight.shape:
            found = f"{operator.operator} {operator.name!r} has {weight.shape}"
            raise ValueError(f"{name} must have a bias and the file's shape: it has {module.weight.shape}, {found}")
        module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        module.bias.copy_(torch.from_numpy(operator.bias))


def _as_torch(operator: Linear) -> Floats:
    """OIHW of OHWI, and of 1HWO for a depthwise convolution; OI stays."""
    if operator.operator == "FULLY_CONNECTED":
        return operator.weight
    return operator.weight.transpose(*((3, 0, 1, 2) if operator.operator == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)))


def linear_operators(path: Path) -> list[Linear]:
    """Read the weights and biases of a float `.tflite` file's linear operators, in the order of computation.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: The package `tflite` is not installed.
        ValueError: The file is no TFLite model, or a linear operator has no float32 weight and bias.
    """
    import tflite  # only reading such files needs the package

    model = _model(path)
    graph = model.Subgraphs(0)
    names = {getattr(tflite.BuiltinOperator, name): name for name in LINEAR}
    found = []
    for operator in (graph.Operators(k) for k in range(graph.OperatorsLength())):
        name = names.get(model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode())
        if name is None:
            continue
        weight = graph.Tensors(operator.Inputs(1))
        label = f"{path}: {name} {weight.Name().decode()!r}"
        bias = graph.Tensors(operator.Inputs(2)) if operator.InputsLength() > 2 and operator.Inputs(2) >= 0 else None
        arrays = [_constant(model, tensor, label) for tensor in (weight, bias)]
        found.append(Linear(weight.Name().decode(), name, *arrays))
    return found


def border(path: Path) -> tuple[Border, Border]:
    """Read what a file takes and gives.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: The package `tflite` is not installed.
        ValueError: The file is no TFLite model, has several inputs or outputs, or types other than float32 and 8 bits.
    """
    graph = _model(path).Subgraphs(0)
    if (graph.InputsLength(), graph.OutputsLength()) != (1, 1):
        counts = f"{graph.InputsLength()} and {graph.OutputsLength()}"
        raise ValueError(f"{path}: must have one input and one output, found {counts}")
    source, target = (_end(graph.Tensors(index), path) for index in (graph.Inputs(0), graph.Outputs(0)))
    return source, target


def _end(tensor: Any, path: Path) -> Border:
    import tflite

    shape = tuple(int(size) for size in tensor.ShapeAsNumpy())
    if tensor.Type() == tflite.TensorType.FLOAT32:
        return Border(shape, None)
    types = {tflite.TensorType.INT8: "int8", tflite.TensorType.UINT8: "uint8"}
    if tensor.Type() not in types:
        raise ValueError(f"{path}: {tensor.Name().decode()!r} must be float32, int8 or uint8, found {tensor.Type()}")
    quantization = tensor.Quantization()
    return Border(shape, QParams((float(quantization.Scale(0)),), int(quantization.ZeroPoint(0)), types[tensor.Type()]))


def _model(path: Path) -> Any:
    import tflite

    content = path.read_bytes()
    if not tflite.Model.ModelBufferHasIdentifier(content, 0):
        raise ValueError(f"{path}: must be a TFLite model, found no identifier TFL3 in it")
    return tflite.Model.GetRootAs(content)


def _constant(model: Any, tensor: Any, label: str) -> Floats:
    import tflite

    if tensor is None or tensor.Type() != tflite.TensorType.FLOAT32 or not model.Buffers(tensor.Buffer()).DataLength():
        raise ValueError(f"{label} needs a float32 weight and bias in the file, found none: use the float file")
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    return data.view("<f4").reshape(tensor.ShapeAsNumpy()).astype(np.float32)
