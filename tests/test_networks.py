"""Whole networks through the whole path: simulation = interpreter = engine = TensorFlow Lite Micro."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.networks import NETWORKS, PRETRAINED

import unfloat
from tests.peers.call import peer
from unfloat import _native
from unfloat.formats.tflite.write import to_bytes
from unfloat.formats.torch.read import read
from unfloat.passes import prepare
from unfloat.program.interpret import interpret, trace
from unfloat.quant.calibrate import calibrate
from unfloat.quant.post_training import simulate
from unfloat.spec.qparams import quantize

LEAST_CODES = 32


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn", "mobilenet_v1_vww"])
def test_every_rung_gives_the_same_bits(name: str) -> None:
    network = NETWORKS[name]
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(8, *network.input_shape, generator=generator) for _ in range(2)]
    model = network.random(seed=1)
    simulation = simulate(model, read(model, (batches[0],)), unfloat.Recipe(), prepare)
    calibrate(simulation, batches, lambda b: b)
    program = simulation.convert()
    x = torch.randn(3, *network.input_shape, generator=generator)
    port = program.inputs[0]
    codes = quantize(x.permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    values = trace(program, [codes])
    expected = values[program.outputs[0].value]
    large = [a for n, a in values.items() if program.tensors[n].data is None and a.size >= 10 * LEAST_CODES]
    assert min(len(np.unique(a)) for a in large) >= LEAST_CODES
    assert np.array_equal(simulation.exact([x])[0].numpy(), expected)
    for level in _native.levels():
        for threads in (1, 2, 3):
            assert np.array_equal(program.compile(threads, level).run(codes), expected), (level, threads)
    (answer,) = peer("tflm")([(to_bytes(program), [codes])])
    assert not isinstance(answer, str), answer
    assert np.array_equal(answer[0], expected)


@pytest.mark.data
def test_a_real_network_on_real_pictures(data_folder: Path) -> None:
    from benchmarks import data

    pictures, _ = data.imagenet("train1000", limit=24)
    network = PRETRAINED["efficientnet_lite0"]
    model = network.build().eval()
    program = unfloat.quantize(model, list(data.preprocess(pictures, *data.LITE_STATISTICS).split(8)))
    evaluation, _ = data.imagenet("val650", limit=40)
    x = data.preprocess(evaluation, *data.LITE_STATISTICS)
    with torch.inference_mode():
        wanted = model(x).argmax(1).numpy()
    assert (program.compile(threads=2)(x.numpy()).argmax(1) == wanted).mean() >= 0.9
    port = program.inputs[0]
    codes = quantize(x[:1].permute(port.permutation).numpy(), program.tensors[port.value].qparams)
    (answer,) = peer("tflm")([(to_bytes(program), [codes])])
    assert not isinstance(answer, str), answer
    assert np.array_equal(answer[0], interpret(program, [codes])[0])


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("torch", "unfloat.quantize(None, [])", "'torch' brings: pip install '.[torch]'"),
        (
            "tflite",
            "unfloat.export(unfloat.load('net.unfloat'), 'net.tflite')",
            "'tflite' brings: pip install '.[tflite]'",
        ),
    ],
)
def test_a_missing_extra_is_named(missing: str, call: str, extra: str, tmp_path: Path) -> None:
    from tests.program.nets import small_net

    small_net().save(tmp_path / "net.unfloat")
    code = f"import sys; sys.modules[{missing!r}] = None\nimport unfloat\n"
    code += f"try:\n    {call}\nexcept unfloat.MissingExtraError as error:\n    print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert extra in done.stdout, done.stderr
    assert not (tmp_path / "net.tflite").exists()
