"""The Engine's border, memory, threads and errors. What the kernels compute is tests/conformance's business."""

import ctypes
import ctypes.util
import os
import platform
import signal
import subprocess
import sys
import threading
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unfloat import _native
from unfloat.ir.graph import BATCH, Port
from unfloat.ir.instruction import Instruction, Tensor
from unfloat.program.interpret import interpret
from unfloat.program.program import Program
from unfloat.runtime.engine import Engine, InputError, levels, peak
from unfloat.spec.errors import NumericDomainError
from unfloat.spec.qparams import QParams, dequantize, quantize

LABEL = QParams((0.5,), 3)
TO_INNER, TO_OUTER = (0, 2, 3, 1), (0, 3, 1, 2)
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}


def two_in_two_out() -> Program:
    """Images a and b, joined; handed back pooled and as they are."""
    shapes = {"a": (5, 6, 2), "b": (5, 6, 3), "joined": (5, 6, 5), "pooled": (2, 3, 5)}
    return Program(
        inputs=tuple(Port(n, n, (BATCH, *shapes[n]), TO_INNER) for n in ("a", "b")),
        outputs=tuple(Port(n, n, (BATCH, *shapes[n]), TO_OUTER) for n in ("pooled", "joined")),
        tensors={n: Tensor(n, (BATCH, *shape), LABEL) for n, shape in shapes.items()},
        instructions=(
            Instruction("concatenation", "joined", ("a", "b"), {"axis": 3}),
            Instruction("max_pool2d", "pooled", ("joined",), POOL),
        ),
        structure=("dict", ("small", "large")),
    )


def images(batch: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((batch, c, 5, 6)) * 30).astype(np.float32) for c in (2, 3)]


def expected(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    return interpret(program, [quantize(x, LABEL).transpose(TO_INNER) for x in inputs])


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_layouts_and_structure_are_the_models_own(threads: int) -> None:
    program = two_in_two_out()
    engine = Engine(program, threads)
    assert engine.threads == threads
    for batch in (1, 3, 2, 3, 1):  # the arena grows, shrinks in use, and is used again
        inputs = images(batch, batch)
        found = engine(*inputs)
        pooled, joined = (dequantize(q, LABEL).transpose(TO_OUTER) for q in expected(program, inputs))
        assert list(found) == ["small", "large"]
        np.testing.assert_array_equal(found["small"], pooled)
        np.testing.assert_array_equal(found["large"], joined)


def test_codes_in_codes_out() -> None:
    program = two_in_two_out()
    inputs = images(2)
    codes = [quantize(x, LABEL).transpose(TO_INNER) for x in inputs]  # strided: the engine takes any
    found = Engine(program).run(*codes)
    assert isinstance(found, tuple)
    for mine, truth in zip(found, expected(program, inputs), strict=True):
        np.testing.assert_array_equal(mine, truth)


def test_an_empty_batch_gives_an_empty_output() -> None:
    found = Engine(two_in_two_out())(*images(0))
    assert found["small"].shape == (0, 5, 2, 3)


def test_profile_and_kernels_name_every_layer() -> None:
    engine = Engine(two_in_two_out(), level="scalar")
    assert engine.kernels() == {"joined": "concatenation__scalar", "pooled": "max_pool2d__scalar"}
    times = engine.profile(*images(1), runs=3)
    assert [(t.name, t.op) for t in times] == [("joined", "concatenation"), ("pooled", "max_pool2d")]
    assert all(t.microseconds > 0 for t in times)


def test_the_environment_forces_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels()[-1] == "scalar"
    monkeypatch.setenv("UNFLOAT_ISA", "scalar")
    assert all(kernel.endswith("__scalar") for kernel in Engine(two_in_two_out()).kernels().values())
    monkeypatch.setenv("UNFLOAT_ISA", "mmx")
    with pytest.raises(ValueError, match="scalar; found 'mmx'"):
        Engine(two_in_two_out())
    os.environb[b"UNFLOAT_ISA"] = b"\xff"
    with pytest.raises(ValueError, match=r"scalar; found '\?'"):
        Engine(two_in_two_out())


class Unseen:
    """What NumPy cannot see as an array: a tensor of bfloat16, or one that requires a gradient."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise self.error


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([Unseen(TypeError("BFloat16")), images(1)[1]], "input a: required what NumPy can see .* found BFloat16"),
        ([images(1)[0], Unseen(RuntimeError("grad"))], "input b: required what NumPy can see .* found grad"),
        (images(1)[:1], r"required 2 inputs \(a, b\), found 1"),
        ([images(1)[0].astype(np.float64), images(1)[1]], "input a: required float32 .* found float64"),
        (
            [images(1)[0], images(1)[1][:, :2]],
            r"input b: required float32 of shape \(batch, 3, 5, 6\), found .*\(1, 2, 5, 6\)",
        ),
        ([images(1)[0][0], images(1)[1]], r"input a: .* found float32 of shape \(2, 5, 6\)"),
        ([images(1)[0], images(2)[1]], "input b: required the first input's batch, 1, found 2"),
    ],
)
def test_wrong_inputs_are_errors_that_name_them(inputs: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Engine(two_in_two_out())(*inputs)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 3, 16, 17])
def test_threads_share_the_inputs(threads: int, channels: int) -> None:
    shape = (BATCH, 13, 19, channels)
    program = Program(
        inputs=(Port("x", "x", shape, TO_INNER),),
        outputs=(Port("y", "y", (BATCH, 13, 19 * channels), (0, 1, 2)),),
        tensors={"x": Tensor("x", shape, LABEL), "y": Tensor("y", (BATCH, 13, 19 * channels), LABEL)},
        instructions=(Instruction("reshape", "y", ("x",), {}),),
    )
    engine = Engine(program, threads)
    for batch in (1, 4):
        x = (np.random.default_rng(batch).standard_normal((batch, channels, 13, 19)) * 30).astype(np.float32)
        wanted = dequantize(quantize(x, LABEL), LABEL).transpose(TO_INNER).reshape(batch, 13, -1)
        np.testing.assert_array_equal(engine(x), wanted)
        for place in (0, x.size // 2, x.size - 1):  # in anyone's share
            broken = x.copy()
            broken.flat[place] = np.nan
            with pytest.raises(NumericDomainError, match="input x: required numbers, found NaN"):
                engine(broken)


def test_nan_is_an_error_and_infinity_is_not() -> None:
    engine, (a, b) = Engine(two_in_two_out()), images(1)
    a[0, 1, 2, 3] = np.inf
    assert engine(a, b)["large"].max() == 0.5 * (127 - 3)
    b[0, 2, 4, 5] = np.nan
    with pytest.raises(NumericDomainError, match="input b: required numbers, found NaN"):
        engine(a, b)


@pytest.mark.parametrize("shared", [False, True])
def test_threads_have_engines_of_their_own_or_take_turns(shared: bool) -> None:
    program = two_in_two_out()
    wrong: list[int] = []
    common = Engine(program, threads=2)

    def work(seed: int) -> None:
        engine, inputs = common if shared else Engine(program, threads=2), images(1 + seed % 3, seed)
        truth = [dequantize(q, LABEL).transpose(TO_OUTER) for q in expected(program, inputs)]
        for _ in range(200):
            found = engine(*inputs)
            wrong.append(sum(int((f != t).sum()) for f, t in zip(found.values(), truth, strict=True)))
        engine.profile(*inputs, runs=3)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == [0] * 800


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
def test_engines_run_on_in_a_forked_process() -> None:
    """Their threads do not survive a fork: the child starts others."""
    engine, inputs = Engine(two_in_two_out(), threads=3), images(2)
    wanted = engine(*inputs)["large"]
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # rather than wait for ever
        right = all(np.array_equal(engine(*inputs)["large"], wanted) for _ in range(3))
        del engine
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(engine(*inputs)["large"], wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_at_work_while_the_process_forks_is_free_in_the_child(threads: int) -> None:
    """Whoever was running it is no more there."""
    engine, inputs, done = Engine(two_in_two_out(), threads), images(2000), threading.Event()
    wanted = engine(*inputs)["large"]

    def work() -> None:
        while not done.is_set():
            engine(*inputs)

    worker = threading.Thread(target=work)
    worker.start()
    statuses = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if np.array_equal(engine(*inputs)["large"], wanted) else 1)
        statuses.append(os.waitpid(child, 0)[1])
    done.set()
    worker.join()
    assert statuses == [0] * 8


def test_threads_at_work_do_not_spoil_the_end_of_a_process() -> None:
    """They wait for Python's lock while the interpreter ends, and never get it."""
    script = """if True:
        import threading, time
        import numpy as np
        from tests.runtime.test_engine import Engine, images, two_in_two_out
        engine, inputs = Engine(two_in_two_out(), threads=2), images(1)
        for _ in range(3):
            threading.Thread(target=lambda: [engine(*inputs) for _ in iter(int, 1)], daemon=True).start()
        time.sleep(0.2)
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


ROUNDING_UP = {"x86_64": 0x800, "AMD64": 0x800, "aarch64": 0x400000, "arm64": 0x400000}[platform.machine()]


@pytest.mark.skipif(os.name != "posix", reason="the C library's functions are found by another name")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_way_of_rounding_changes_nothing(threads: int) -> None:
    engine, inputs = Engine(two_in_two_out(), threads), images(50)
    wanted = engine(*inputs)["large"]
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.fesetround(ROUNDING_UP)
    try:
        found = engine(*inputs)["large"]
        assert library.fegetround() == ROUNDING_UP  # as the caller has it
    finally:
        library.fesetround(0)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("threads", [1, 2])
def test_numbers_that_others_flush_to_zero_stay(threads: int) -> None:
    program = two_in_two_out()
    tiny = QParams((2.0**-126,), 3)
    program = replace(program, tensors={n: replace(t, qparams=tiny) for n, t in program.tensors.items()})
    engine, inputs = Engine(program, threads), [x * np.float32(2.0**-127) for x in images(50)]
    wanted = engine(*inputs)["large"]
    assert len(np.unique(wanted)) > 50
    assert torch.set_flush_denormal(True)
    try:
        found = engine(*inputs)["large"].view(np.int32)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found, wanted.view(np.int32))


def test_codes_that_a_label_does_not_allow_are_refused() -> None:
    """What is proved of accumulators is proved of those that it allows."""
    program = two_in_two_out()
    nibbles = QParams((0.5,), 3, bits=4)
    program = replace(program, tensors={n: replace(t, qparams=nibbles) for n, t in program.tensors.items()})
    codes = [np.full((1, 5, 6, c), 7, np.int8) for c in (2, 3)]
    assert (Engine(program).run(*codes)[0] == interpret(program, codes)[0]).all()
    codes[1][0, 0, 0, 0] = 8
    for run in (Engine(program).run, lambda *codes: interpret(program, codes)):
        with pytest.raises(InputError, match=r"input b: required codes in \[-8, 7\], found \[7, 8\]"):
            run(*codes)


# what the native side refuses -----------------------------------------------------------------------------------------

CONV = {
    "tensors": [((4, 4, 3), "int8", 0, None), ((2, 2, 8), "int8", 64, None)],
    "instructions": [
        (
            "conv2d",
            "layer1",
            [0],
            1,
            {
                "stride": (2, 2),
                "dilation": (1, 1),
                "padding": (0, 0, 1, 1),
                "groups": 1,
                "input_zero_point": -3,
                "weight_zero_point": 0,
                "output_zero_point": 5,
                "clamp_min": -128,
                "clamp_max": 127,
                "rounding": "double",
            },
            {
                "weight": np.ones((8, 3, 3, 3), np.int8),
                "bias": np.zeros(8, np.int32),
                "multiplier": np.full(8, 2**30, np.int32),
                "shift": np.full(8, -4, np.int8),
            },
        )
    ],
    "inputs": [0],
    "outputs": [1],
    "arena_bytes_per_sample": 128,
    "threads": 1,
    "level": "",
}


def test_the_valid_one_runs() -> None:
    out = np.zeros((1, 2, 2, 8), np.int8)
    _native.Engine(**CONV).run(1, [np.zeros((1, 4, 4, 3), np.int8)], [out])
    # 27 differences of 3, times 2^-5 = 2.53, plus the zero point
    assert (out[0, 0, 0] == 3 + 5).all()


@pytest.mark.parametrize("attribute", CONV["instructions"][0][4])
def test_a_missing_attribute_is_an_error(attribute: str) -> None:
    bad = deepcopy(CONV)
    del bad["instructions"][0][4][attribute]
    with pytest.raises(ValueError, match=f"layer 'layer1' .conv2d.: misses the attribute '{attribute}'"):
        _native.Engine(**bad)


@pytest.mark.parametrize("role", CONV["instructions"][0][5])
def test_a_missing_or_wrong_constant_is_an_error(role: str) -> None:
    bad = deepcopy(CONV)
    constants = bad["instructions"][0][5]
    good = constants.pop(role)
    with pytest.raises(ValueError, match=f"layer1.*misses the constant '{role}'"):
        _native.Engine(**bad)
    for wrong in (good[:-1], good.astype(np.int32 if good.dtype == np.int8 else np.int8)):
        constants[role] = wrong
        with pytest.raises(ValueError, match=f"layer1.*its {role} must"):
            _native.Engine(**bad)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("stride", (0, 1), "stride"),
        ("stride", (1, 1), "do not give the output's shape"),
        ("stride", (1,), "must hold 2 integers"),
        ("padding", (0, 0, 1, 2**40), "padding"),
        ("dilation", (3, 3), "do not give"),
        ("groups", 2, "groups"),
        ("groups", 0, "groups"),
        ("input_zero_point", 128, "input_zero_point"),
        ("clamp_min", 128, "clamp_min"),
        ("rounding", "up", "rounding"),
        ("rounding", 1, "rounding"),
    ],
)
def test_an_impossible_attribute_is_an_error(attribute: str, value: object, message: str) -> None:
    bad = deepcopy(CONV)
    bad["instructions"][0][4][attribute] = value
    with pytest.raises(ValueError, match=f"layer1.*{message}"):
        _native.Engine(**bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [2]}, "must be activations, found tensor 2"),
        ({"outputs": [-1]}, "must be activations, found tensor -1"),
        ({"threads": 0}, "threads"),
        ({"level": "sse9"}, "sse9"),
        ({"arena_bytes_per_sample": 95}, "tensor 1: lies outside the arena"),
        ({"arena_bytes_per_sample": -1}, "impossible"),
        ({"tensors": [((4, 4, 3), "int8", 0, None), ((2, 2, 8), "int8", -1, None)]}, "outside the arena"),
        ({"tensors": [((4, 4, 0), "int8", 0, None), ((2, 2, 8), "int8", 64, None)]}, "tensor 0: a dimension"),
        ({"tensors": [((2**20, 2**20, 3), "int8", 0, None), ((2, 2, 8), "int8", 64, None)]}, "tensor 0: a dimension"),
        ({"tensors": [((1, 1, 1, 1, 4, 4, 3), "int8", 0, None), ((2, 2, 8), "int8", 64, None)]}, "dimensions"),
        (
            {"tensors": [((1, 4, 4, 3), "int8", -1, np.zeros((1, 4, 4, 3), np.int8)), ((2, 2, 8), "int8", 64, None)]},
            "activations",
        ),
        (
            {"tensors": [((4, 4, 3), "int32", 0, None), ((2, 2, 8), "int8", 64, None)]},
            "int8, uint8 or int16, found int32",
        ),
        ({"tensors": [((4, 4, 3), "int16", 0, None), ((2, 2, 8), "int16", 64, None)]}, "input_zero_point' must be 0"),
        ({"instructions": [("conv3d", *CONV["instructions"][0][1:])]}, "no such operator"),
        ({"instructions": [(*CONV["instructions"][0][:2], [7], *CONV["instructions"][0][3:])]}, "no tensor 7"),
        ({"instructions": [(*CONV["instructions"][0][:2], [], *CONV["instructions"][0][3:])]}, "layer1"),
    ],
)
def test_an_impossible_program_is_an_error(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.Engine(**{**CONV, **change})


def test_an_image_of_too_many_rows_is_an_error() -> None:
    bad = deepcopy(CONV)
    bad["tensors"] = [((2**31 - 1, 1, 1), "int8", 0, None), ((65539, 1, 8), "int8", 2**31, None)]
    bad["arena_bytes_per_sample"] = 2**32
    bad["instructions"][0][4].update(stride=(32767, 1), padding=(1, 0, 1, 0))
    bad["instructions"][0][5]["weight"] = np.ones((8, 3, 1, 1), np.int8)
    with pytest.raises(ValueError, match=r"layer1.*its image is too large"):
        _native.Engine(**bad)


@pytest.mark.parametrize("kernel", [(0, 3), (3, 0), (2**15 + 1, 3)])
def test_an_impossible_kernel_is_an_error(kernel: tuple[int, int]) -> None:
    bad = deepcopy(CONV)
    bad["instructions"][0][5]["weight"] = np.ones((8, *kernel, 3), np.int8)
    with pytest.raises(ValueError, match=r"layer1.*its kernel is (empty|too large)"):
        _native.Engine(**bad)


WIDE_CONV = deepcopy(CONV)
WIDE_CONV["tensors"] = [((4, 4, 3), "int16", 0, None), ((2, 2, 8), "int16", 128, None)]
WIDE_CONV["arena_bytes_per_sample"] = 192
WIDE_CONV["instructions"][0][4].update(rounding="acc64", input_zero_point=0, output_zero_point=0, clamp_min=-32768)
WIDE_CONV["instructions"][0][5]["bias"] = np.zeros(8, np.int64)


def test_the_valid_one_runs_on_words() -> None:
    out = np.zeros((1, 2, 2, 8), np.int16)
    _native.Engine(**WIDE_CONV).run(1, [np.full((1, 4, 4, 3), 32767, np.int16)], [out])
    assert (out[0, 0, 0] == min(127, (27 * 32767 * 2**14 + 2**18) >> 19)).all()
    with pytest.raises(ValueError, match="wrong type"):
        _native.Engine(**WIDE_CONV).run(1, [np.zeros((1, 4, 4, 3), np.int8)], [out])


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("rounding", "double", "'acc64' on int16"),
        ("output_zero_point", 1, "output_zero_point' must be 0"),
        ("clamp_max", 32768, "clamp_max"),
        ("weight_zero_point", 1, "symmetric"),
    ],
)
def test_an_impossible_attribute_on_words_is_an_error(attribute: str, value: object, message: str) -> None:
    bad = deepcopy(WIDE_CONV)
    bad["instructions"][0][4][attribute] = value
    with pytest.raises(ValueError, match=f"layer1.*{message}"):
        _native.Engine(**bad)


@pytest.mark.parametrize(
    ("role", "wrong"),
    [("bias", np.zeros(8, np.int32)), ("shift", np.full(8, 8, np.int8)), ("bias", np.zeros(7, np.int64))],
)
def test_a_wrong_constant_on_words_is_an_error(role: str, wrong: np.ndarray) -> None:
    bad = deepcopy(WIDE_CONV)
    bad["instructions"][0][5][role] = wrong
    with pytest.raises(ValueError, match=f"layer1.*its {role} must"):
        _native.Engine(**bad)


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"),
    [
        (1, [], [np.zeros((1, 2, 2, 8), np.int8)]),
        (1, [np.zeros((1, 4, 4, 3), np.uint8)], [np.zeros((1, 2, 2, 8), np.int8)]),
        (2, [np.zeros((1, 4, 4, 3), np.int8)], [np.zeros((2, 2, 2, 8), np.int8)]),
        (1, [np.zeros((1, 4, 4, 3), np.int8)], [np.zeros((1, 2, 2, 7), np.int8)]),
        (1, [np.zeros((1, 4, 4, 6), np.int8)[..., ::2]], [np.zeros((1, 2, 2, 8), np.int8)]),
        (1, [np.zeros((1, 4, 4, 3), np.int8)], [np.zeros((1, 2, 2, 16), np.int8)[..., ::2]]),
        (0, [np.zeros((0, 4, 4, 3), np.int8)], [np.zeros((0, 2, 2, 8), np.int8)]),
        (2**40, [np.zeros((1, 4, 4, 3), np.int8)], [np.zeros((1, 2, 2, 8), np.int8)]),
    ],
)
def test_wrong_arrays_are_errors(batch: int, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
    engine = _native.Engine(**CONV)
    with pytest.raises(ValueError, match=r"must|needs|wrong type"):
        engine.run(batch, inputs, outputs)
    engine.run(1, [np.zeros((1, 4, 4, 3), np.int8)], [np.zeros((1, 2, 2, 8), np.int8)])


BORDER = (0.5, 3, -128, 127, [0, 2, 3, 1])
OUT_BORDER = (0.25, 5, -128, 127, [0, 1, 2, 3])


def test_reals_go_straight_into_the_arena_and_out_of_it() -> None:
    engine = _native.Engine(**CONV)
    x = np.random.default_rng(5).normal(0, 20, (3, 3, 4, 4)).astype(np.float32)
    x.flags.writeable = False
    reals, codes = np.empty((3, 2, 2, 8), np.float32), np.empty((3, 2, 2, 8), np.int8)
    assert engine.call(3, [x], [reals], _native.Borders(engine, [BORDER], [OUT_BORDER])) == -1
    engine.run(3, [np.ascontiguousarray(quantize(x, QParams((0.5,), 3)).transpose(0, 2, 3, 1))], [codes])
    np.testing.assert_array_equal(reals, dequantize(codes, QParams((0.25,), 5)))
    x = x.copy()
    x[2, 2, 3, 3] = np.nan
    before = reals.copy()
    assert engine.call(3, [x], [reals], _native.Borders(engine, [BORDER], [OUT_BORDER])) == 0
    np.testing.assert_array_equal(reals, before)


@pytest.mark.parametrize(
    ("x", "out", "border", "message"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), np.zeros((1, 2, 2, 8), np.float32), BORDER, "input 0 has the wrong shape"),
        (np.zeros((1, 3, 4), np.float32), np.zeros((1, 2, 2, 8), np.float32), BORDER, "input 0 has the wrong shape"),
        (np.zeros((1, 3, 4, 4)), np.zeros((1, 2, 2, 8), np.float32), BORDER, "input 0 must be a C-contiguous float32"),
        (np.zeros((1, 3, 4, 8), np.float32)[..., ::2], np.zeros((1, 2, 2, 8), np.float32), BORDER, "input 0 must be"),
        (np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 8, 2, 2), np.float32), BORDER, "output 0 has the wrong"),
        (np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 2, 2, 8)), BORDER, "output 0 must be"),
        (np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 2, 2, 8), np.float32), (*BORDER[:4], [0, 1]), "every axis"),
        (np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 2, 2, 8), np.float32), (*BORDER[:4], [0, 9, 1, 2]), "every"),
        (np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 2, 2, 8), np.float32), (-1.0, *BORDER[1:]), "scale"),
        (np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 2, 2, 8), np.float32), (1.0, 200, *BORDER[2:]), "zero_point"),
    ],
)
def test_wrong_reals_are_errors(x: np.ndarray, out: np.ndarray, border: tuple, message: str) -> None:
    engine = _native.Engine(**CONV)
    with pytest.raises(ValueError, match=message):
        engine.call(1, [x], [out], _native.Borders(engine, [border], [OUT_BORDER]))


def test_wrong_counts_and_borders_are_errors() -> None:
    engine, out = _native.Engine(**CONV), np.zeros((1, 2, 2, 8), np.float32)
    borders = _native.Borders(engine, [BORDER], [OUT_BORDER])
    with pytest.raises(ValueError, match="needs 1 input arrays"):
        engine.call(1, [], [out], borders)
    with pytest.raises(ValueError, match="every input and every output needs a border"):
        _native.Borders(engine, [BORDER], [])
    with pytest.raises(ValueError, match="of another engine"):
        _native.Engine(**CONV).call(1, [np.zeros((1, 3, 4, 4), np.float32)], [out], borders)
    orphans = [_native.Borders(_native.Engine(**CONV), [BORDER], [OUT_BORDER]) for _ in range(4)]  # alone with theirs
    for found in orphans:
        with pytest.raises(ValueError, match="of another engine"):
            _native.Engine(**CONV).call(1, [np.zeros((1, 3, 4, 4), np.float32)], [out], found)


def test_a_read_only_output_is_an_error() -> None:
    out = np.zeros((1, 2, 2, 8), np.int8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="output 0"):
        _native.Engine(**CONV).run(1, [np.zeros((1, 4, 4, 3), np.int8)], [out])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"threads": "2"}, TypeError, "threads: required an integer, at least 1, found '2'"),
        ({"threads": 2.5}, TypeError, "threads: required an integer, at least 1, found 2.5"),
        ({"threads": True}, TypeError, "threads: required an integer, at least 1, found True"),
        ({"threads": None}, TypeError, "threads: required an integer, at least 1, found None"),
        ({"threads": 0}, ValueError, "threads: required an integer, at least 1, found 0"),
        ({"threads": -1}, ValueError, "threads: required an integer, at least 1, found -1"),
        ({"threads": 2**40}, ValueError, "threads: required an integer, at least 1, found 1099511627776"),
        ({"threads": 1025}, ValueError, r"threads must lie in \[1, 1024\], found 1025"),
        ({"level": 3}, TypeError, r"level: required one of \[.*'scalar'\] or None, found 3"),
        ({"level": ["scalar"]}, TypeError, "level: required one of"),
        ({"level": "abacus"}, ValueError, "found 'abacus'"),
    ],
)
def test_arguments_that_cannot_be_meant_are_named(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        two_in_two_out().compile(**arguments)
    with pytest.raises(kind, match=message):
        peak(**arguments)


def test_threads_may_be_numpys() -> None:
    assert two_in_two_out().compile(threads=np.int64(2)).threads == 2  # type: ignore[arg-type]
