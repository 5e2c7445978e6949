"""The last rung of the ladder: exported files in the public runtimes give the interpreter's bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.conformance.generate import DRAWS, Draw, build, codes_for, generator, in_rows
from tests.peers.call import Peer, peer
from tests.peers.programs import CASES, clamped_sum, hard_products, in_a_row, requantized, with_biases
from tests.peers.protocol import Arrays
from tests.program.nets import small_codes, small_net
from unfloat.formats.tflite.table import WRITERS
from unfloat.formats.tflite.table.activations import TIE
from unfloat.formats.tflite.write import to_bytes
from unfloat.ir.graph import Clamp
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case, Operator
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.runtime.engine import Engine, levels
from unfloat.spec.errors import ExportError
from unfloat.spec.qparams import STORAGE, QParams, dequantize, quantize

OPERATORS = [operator for operator in REGISTRY.values() if operator.name in WRITERS]
SIGMOIDS = ("logistic", "tanh")  # LiteRT makes their tables of bytes in floating point
INT8 = [draw for draw in DRAWS if draw.scheme == "int8" and draw.rounding == "double"]
UINT8 = [draw for draw in DRAWS if draw.scheme == "uint8" and draw.rounding == "double"]
INT16 = [draw for draw in DRAWS if draw.scheme == "int16x8" and draw.rounding == "double"]
BYTES = ("int8", "uint8")
NARROW = {
    "arg_max": BYTES,
    "take": BYTES,
    "resize_bilinear": ("int8",),
}  # what the public kernels know, where it is less
WIDE_OPERATORS = [o for o in OPERATORS if "int16" in o.storages and "int16" in NARROW.get(o.name, ("int16",))]
BYTES_OPERATORS = [o for o in OPERATORS if "uint8" in o.storages and "uint8" in NARROW.get(o.name, ("uint8",))]
UINT8_OPERATORS = [o for o in BYTES_OPERATORS if o.name not in (*SIGMOIDS, "abs")]
SAMPLES = 3
UNSCALED_IN_LITERT = {"sum"}  # it adds int8 and int16 codes as they are, in as many bits
UNKNOWN_TO_MICRO = {"gelu"}
OTHER_CURVES_IN_LITERT = {"lstm"}  # it computes logistic and tanh of 16 bits without a table, here
CRASHING_SUM = 512  # of a softmax row's exponentials: the public kernels then shift by 32 bits and abort


@pytest.fixture(scope="module")
def tflm() -> Peer:
    return peer("tflm")


@pytest.fixture(scope="module")
def litert() -> Peer:
    return peer("litert")


def gaps(runtime: Peer, jobs: Sequence[tuple[Program, Arrays]]) -> list[np.ndarray]:
    """For each job the difference of every output code."""
    answers = runtime([(to_bytes(program), inputs) for program, inputs in jobs])
    found = []
    for (program, inputs), answer in zip(jobs, answers, strict=True):
        assert not isinstance(answer, str), f"{program.instructions}: {answer}"
        expected = in_a_row(program, inputs)
        assert [a.shape for a in answer] == [e.shape for e in expected]
        found.append(np.concatenate([(a.astype(int) - e).ravel() for a, e in zip(answer, expected, strict=True)]))
    return found


def jobs_of(operator: Operator, draws: Sequence[Draw]) -> dict[str, tuple[Program, Arrays]]:
    """Every case of an operator that can be exported, with codes, by draw and case."""
    found = {}
    for draw, case in product(draws, (*operator.cases(), *(case for name, case in CASES if name == operator.name))):
        program = build(operator, case, draw)
        inputs = in_rows(program, codes_for(program, SAMPLES, case.label))
        if exportable(program, case) and not crashes(operator, program, inputs):
            found[f"{draw.name}: {case.label}"] = (program, inputs)
    return found


def differing(runtime: Peer, jobs: Mapping[str, tuple[Program, Arrays]]) -> dict[str, int]:
    """How many codes differ, by job, where any do."""
    counts = map(np.count_nonzero, gaps(runtime, list(jobs.values())))
    return {label: int(count) for label, count in zip(jobs, counts, strict=True) if count}


def exportable(program: Program, case: Case) -> bool:
    """False for the few things that the public kernels cannot do; anything else refused is a failure."""
    try:
        to_bytes(program)
    except ExportError as error:
        op, dtype = program.instructions[0].op, program.tensors["x0"].qparams.dtype
        asymmetric = op == "average_pool2d" and case.label == "asymmetric padding"
        few = op == "lstm" and program.tensors["out"].qparams.bits < 8
        tie = op == "gelu" and TIE in str(error)
        assert asymmetric or few or tie or dtype not in NARROW.get(op, (dtype,)), error
        return False
    return True


def crashes(operator: Operator, program: Program, inputs: Arrays) -> bool:
    """Whether the public softmax kernels would abort on these codes."""
    if operator.name != "softmax":
        return False
    mantissa, exponent = program.instructions[0].attributes.get("beta", (1, 0))
    reals = dequantize(inputs[0], program.tensors["x0"].qparams).astype(np.float64) * mantissa * 2.0**exponent
    sums = np.exp(reals - reals.max(axis=-1, keepdims=True)).sum(axis=-1)
    return bool(sums.max() > CRASHING_SUM - 1)


@pytest.mark.parametrize("operator", [o for o in OPERATORS if o.name not in UNKNOWN_TO_MICRO], ids=lambda o: o.name)
def test_int8_in_tflite_micro(operator: Operator, tflm: Peer) -> None:
    jobs = jobs_of(operator, INT8)
    assert jobs
    assert not differing(tflm, jobs)


@pytest.mark.parametrize(
    "operator",
    [o for o in OPERATORS if o.name not in UNSCALED_IN_LITERT | OTHER_CURVES_IN_LITERT],
    ids=lambda o: o.name,
)
def test_int8_in_litert(operator: Operator, litert: Peer) -> None:
    """Equal too, but for FULLY_CONNECTED, requantized in floating point, and near ties of LOGISTIC and TANH."""
    jobs = jobs_of(operator, INT8)
    if operator.name not in ("fully_connected", *SIGMOIDS):
        assert not differing(litert, jobs)
        return
    found = np.concatenate(gaps(litert, list(jobs.values())))
    assert np.abs(found).max() <= 1
    assert np.count_nonzero(found) <= len(found) // (40 if operator.name in SIGMOIDS else 100)


@pytest.mark.parametrize("operator", UINT8_OPERATORS, ids=lambda o: o.name)
def test_uint8_in_litert(operator: Operator, litert: Peer) -> None:
    """Whatever is written is equal; with scales that are powers of two all of it is written."""
    jobs = jobs_of(operator, UINT8)
    assert any(label.startswith("uint8-ties") for label in jobs)
    assert not differing(litert, jobs)


@pytest.mark.parametrize("operator", WIDE_OPERATORS, ids=lambda o: o.name)
def test_int16_in_tflite_micro(operator: Operator, tflm: Peer) -> None:
    jobs = jobs_of(operator, INT16)
    assert jobs
    assert not differing(tflm, jobs)


@pytest.mark.parametrize(
    "operator", [o for o in WIDE_OPERATORS if o.name not in UNSCALED_IN_LITERT], ids=lambda o: o.name
)
def test_int16_in_litert(operator: Operator, litert: Peer) -> None:
    """Equal but for FULLY_CONNECTED, requantized in floating point, and factors formed in float32: MUL's and slopes'."""
    found = np.concatenate(gaps(litert, list(jobs_of(operator, INT16).values())))
    shares = {"fully_connected": 40, "mul": 100, "leaky_relu": 500, "abs": 500}
    most = len(found) // shares[operator.name] if operator.name in shares else 0
    assert np.abs(found).max() <= (1 if most else 0)
    assert np.count_nonzero(found) <= most


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "fully_connected"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_tflite_micro_forms_linear_factors_in_double(op: str, per_channel: bool, tflm: Peer) -> None:
    """Accumulators at which a factor formed in float32 gives another code: the last bits of multipliers count."""
    rng = generator("factors", op)
    programs = [with_biases(op, per_channel, rng) for _ in range(10)]
    jobs = [(program, [np.zeros((1, *program.inputs[0].shape[1:]), np.int8)]) for program in programs]
    assert not any(gap.any() for gap in gaps(tflm, jobs))


def test_tflite_micro_forms_mul_factors_in_double(tflm: Peer) -> None:
    rng = generator("factors", "mul")
    assert not any(gap.any() for gap in gaps(tflm, [hard_products(rng) for _ in range(10)]))


def test_network_with_its_activations(tflm: Peer) -> None:
    codes = [small_codes(8)]
    assert not gaps(tflm, [(small_net(), codes)])[0].any()


@pytest.mark.parametrize("draw", [*INT8, *INT16], ids=lambda d: d.name)
@pytest.mark.parametrize("runtime", ["tflm", "litert"])
def test_float_border(runtime: str, draw: Draw) -> None:
    """QUANTIZE and DEQUANTIZE are the engine's border: float32 division, ties away from zero."""
    program = build(REGISTRY["max_pool2d"], _identity(), draw)
    label = program.tensors["x0"].qparams
    rng = generator("border", draw.name)
    ties = rng.integers(-600, 601, (SAMPLES, 8, 8, 9)) * np.float32(label.scale[0]) / 2
    spread = 0.3 * (label.qmax - label.qmin) * label.scale[0]
    reals = np.concatenate([ties, rng.normal(0, spread, ties.shape)]).astype(np.float32)
    expected = dequantize(interpret(program, [quantize(reals, label)])[0], program.tensors["out"].qparams)
    (answer,) = peer(runtime)([(to_bytes(program, float_border=True), [reals])])
    assert not isinstance(answer, str), answer
    assert answer[0].dtype == np.float32
    np.testing.assert_array_equal(answer[0], expected)


def _identity() -> Case:
    return Case("identity", ((8, 8, 9),), {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0)})


def test_outputs_that_are_inputs_constants_or_repeated(tflm: Peer) -> None:
    net = small_net()
    x, y = net.inputs[0], net.outputs[0]
    outputs = (y, replace(y, name="again"), replace(x, name="image"), replace(y, name="third"))
    program = replace(net, outputs=outputs, structure=("tuple", 4))
    assert not gaps(tflm, [(program, [small_codes(2)])])[0].any()


@pytest.mark.parametrize("op", ["add", "mul"])
def test_constant_operand(op: str, tflm: Peer) -> None:
    program = build(REGISTRY[op], Case("a value for each channel", ((4, 5, 7), (1, 1, 7))), INT8[0])
    first, second = program.inputs
    label = program.tensors[second.value].qparams
    codes = generator("constant", op).integers(label.qmin, label.qmax + 1, (1, 1, 1, 7)).astype(STORAGE[label.dtype])
    constant = replace(program.tensors[second.value], shape=codes.shape, data=codes)
    program = replace(program, inputs=(first,), tensors={**program.tensors, second.value: constant})
    assert not gaps(tflm, [(program, codes_for(program, SAMPLES, op))])[0].any()


@pytest.mark.parametrize(("source", "target"), [("int8", "int16"), ("int16", "int8")])
@pytest.mark.parametrize("scale", [2.0**-5, 0.75 * 2.0**-4])
def test_rescale_between_widths(source: str, target: str, scale: float, tflm: Peer, litert: Peer) -> None:
    def label(dtype: str, scale: float) -> QParams:
        return QParams((scale / 256,), 0, dtype, 16) if dtype == "int16" else QParams((scale,), 3, dtype)

    program = requantized(label(source, scale), label(target, 2.0**-4))
    codes = codes_for(program, SAMPLES, source)
    for runtime in (tflm, litert):
        assert not gaps(runtime, [(program, codes)])[0].any()
    for level in levels():
        assert (Engine(program, level=level).run(*codes) == interpret(program, codes)[0]).all()


@pytest.mark.parametrize(("source", "target"), [("int8", "uint8"), ("uint8", "int8")])
@pytest.mark.parametrize("scale", [2.0**-5, 0.75 * 2.0**-4])
def test_rescale_between_storage_types(source: str, target: str, scale: float, tflm: Peer, litert: Peer) -> None:
    labels = [QParams((scale,), 3 if dtype == "int8" else 131, dtype) for dtype in (source, target)]
    wider = QParams((2.0**-4,), 20, target)
    for runtime in (tflm, litert):
        for label in (labels[1], wider):
            program = requantized(labels[0], label)
            assert not gaps(runtime, [(program, codes_for(program, SAMPLES, source))])[0].any()


@pytest.mark.parametrize("bits", [8, 5])
def test_clamps(bits: int, tflm: Peer) -> None:
    """Activations that TFLite has and clamps that it has not, with codes of 8 bits and fewer."""
    bounds = [-np.inf, -2.0, -1.0, 0.0, 0.5, 1.0, 6.0, np.inf]
    clamps = [Clamp(float(low), float(high)) for low in bounds for high in bounds if low < high]
    labels = [QParams((2.0**-k,), zero_point, bits=bits) for k in (3, 4, 5) for zero_point in (-(2 ** (bits - 1)), 3)]
    jobs = [
        (program, codes_for(program, 1, "clamps")) for program in (clamped_sum(c, q) for c in clamps for q in labels)
    ]
    assert not any(gap.any() for gap in gaps(tflm, jobs))


def test_vela_leaves_nothing_to_the_cpu() -> None:
    (answer,) = peer("vela")([(to_bytes(small_net()), [])])
    assert not isinstance(answer, str), answer
    cpu, npu = answer[0]
    assert cpu == 0
    assert npu > 0
