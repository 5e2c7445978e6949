"""Networks from others' `.tflite` files: their weights in PyTorch give what LiteRT gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import data
from benchmarks.networks import mobilenet_v1_025_imagenet, randomize
from benchmarks.networks._layers import same_conv_relu6
from benchmarks.networks.mobilenet_v1 import MobileNetV1
from benchmarks.tflite_files import border, linear_operators, load_linear
from benchmarks.training import public_files
from torch import nn

from tests.program.nets import small_net
from unfloat.formats.tflite.write import to_bytes
from unfloat.formats.torch.read import read
from unfloat.passes import prepare
from unfloat.spec.qparams import QParams, dequantize, quantize


@pytest.mark.data
def test_the_imagenet_network_is_the_public_file(data_folder: Path) -> None:
    pictures, labels = data.imagenet("val650", limit=60, size=128)
    expected = public_files.probabilities(public_files.FILES["float"], pictures, "xnnpack")
    logits = public_files.float_logits(mobilenet_v1_025_imagenet(), pictures)
    found = torch.from_numpy(logits).softmax(1).numpy()
    likely = expected > 1e-6
    assert np.abs(found / expected - 1)[likely].max() < 2e-4
    assert np.abs(found - expected).max() < 2e-5
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    assert public_files.top1(logits, labels) > 45


@pytest.mark.data
def test_public_integer_files_name_pictures(data_folder: Path) -> None:
    pictures, labels = data.imagenet("val650", limit=60, size=128)
    for name, least in (("int8", 35), ("uint8, trained", 42)):
        scores = public_files.probabilities(public_files.FILES[name], pictures, "xnnpack")
        assert scores.shape == (60, 1000)
        assert public_files.top1(scores, labels) > least, name


@pytest.mark.data
def test_one_scale_a_tensor_ruins_the_weights(data_folder: Path) -> None:
    pictures, labels = data.imagenet("val650", limit=60, size=128)
    model = mobilenet_v1_025_imagenet()
    whole = public_files.top1(public_files.float_logits(model, pictures), labels)
    paper, channel = (
        public_files.top1(public_files.float_logits(public_files.rounded_weights(model, label), pictures), labels)
        for label in (public_files.paper_label, public_files.channel_label)
    )
    assert paper < 5
    assert channel > whole - 10


@pytest.mark.data
def test_weights_that_do_not_fit_are_named(data_folder: Path) -> None:
    files = data_folder / "tflite"
    with pytest.raises(ValueError, match=r"28 linear layers, .*pretrainedResnet"):
        load_linear(MobileNetV1(width=0.25), files / "pretrainedResnet.tflite")
    with pytest.raises(ValueError, match=r"features\.0\.0 must have a bias"):
        load_linear(MobileNetV1(width=0.25), files / "mbnet128_0.25_f.tflite")
    with pytest.raises(ValueError, match=r"features\.0\.1 must have .*\[16, 3, 3, 3\].* has \(8, 3, 3, 3\)"):
        load_linear(MobileNetV1(width=0.5, convolution=same_conv_relu6), files / "mbnet128_0.25_f.tflite")
    with pytest.raises(ValueError, match="needs a float32 weight and bias"):
        linear_operators(files / "mbnet128_0.25_q.tflite")


def test_rounded_weights_are_sayable() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 36, 4)), 1, (3, 8, 8))
    before = [p.detach().clone() for p in model.parameters()]
    for label in (public_files.paper_label, public_files.channel_label):
        rounded = public_files.rounded_weights(model, label)
        for k, axes in ((0, (1, 2, 3)), (2, (1,))):
            old, new = model[k].weight.detach().numpy(), rounded[k].weight.detach().numpy()
            steps = label(old)
            assert np.array_equal(new, dequantize(quantize(old, steps), steps))
            assert not np.array_equal(new, old)
            assert (np.abs(new - old).max(axes) <= 0.501 * np.asarray(steps.scale)).all()
            assert torch.equal(rounded[k].bias, model[k].bias)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_files_border_is_read(tmp_path: Path) -> None:
    program = small_net()
    path = tmp_path / "net.tflite"
    path.write_bytes(to_bytes(program))
    for end, port in zip(border(path), (program.inputs[0], program.outputs[0]), strict=True):
        tensor = program.tensors[port.value]
        assert end.label == QParams(tensor.qparams.scale, tensor.qparams.zero_point, tensor.qparams.dtype)
        assert end.shape[1:] == tensor.shape[1:]
    path.write_bytes(to_bytes(program, float_border=True))
    assert [end.label for end in border(path)] == [None, None]
    path.write_bytes(b"not a model at all")
    with pytest.raises(ValueError, match="must be a TFLite model"):
        border(path)


def test_same_padding_at_stride_2_is_below_and_right() -> None:
    layer = same_conv_relu6(1, 1, 3, stride=2)
    with torch.no_grad():
        layer[1].weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
        layer[1].bias.fill_(-32.0)
    # The window of an even picture begins at pixel 0: 36 is the sum of all taps, 0 + 1 + 3 + 4 of those inside.
    assert layer(torch.ones(1, 1, 4, 4)).flatten().tolist() == [4, 0, 0, 0]
    with torch.no_grad():
        layer[1].bias.fill_(-5.0)
    assert layer(torch.ones(1, 1, 2, 2)).flatten().tolist() == [3]


def test_the_folded_network_fuses_to_linear_layers() -> None:
    model = MobileNetV1(width=0.25, convolution=same_conv_relu6).eval()
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    ops = [node.op for node in prepare(read(model, (torch.zeros(1, 3, 128, 128),)), parameters).nodes]
    assert sorted(set(ops)) == ["conv2d", "depthwise_conv2d", "fully_connected", "mean"]
    assert len(ops) == 29
