"""What instructions remember from run to run: the oracle's states, by every way to begin, go on and be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unfloat
from tests import oracle
from tests.conformance.generate import DRAWS, Draw, all_cases, build, codes_for, drawn_cases
from tests.conformance.witness import by_interpreter, by_oracle_remembering
from tests.program.test_certificate import Break, added, attribute, constant, first, label, with_layer
from unfloat.ir.graph import BATCH, Graph, Node, Param, Port
from unfloat.ir.instruction import Instruction
from unfloat.ops import REGISTRY
from unfloat.ops._operator import Case, Operator
from unfloat.program.interpret import Memory, interpret
from unfloat.program.lower import Quantization, complete, lower
from unfloat.program.program import Program
from unfloat.program.states import remembers
from unfloat.spec.errors import InputError, InvalidProgramError, NumericDomainError
from unfloat.spec.qparams import QParams, float32, qparams_from_range

RUNS = 4
INT8 = DRAWS[0]
REMEMBERING = [
    pytest.param(operator, case, draw, id=f"{operator.name}: {case.label}-{draw.name}")
    for operator, case, draw in drawn_cases()
    if operator.states is not None
]


def program_of(op: str, label: str, draw: Draw = INT8) -> Program:
    """One instruction that remembers."""
    return carried(build(*next((o, c) for o, c in all_cases() if o.name == op and c.label == label), draw))


def carried(program: Program) -> Program:
    """The Program, its layer made to remember where that is an attribute."""
    (layer,) = program.instructions
    if "carried" not in layer.attributes:
        return program
    return attribute("out", "carried", lambda _: 1)(program)


def relabelled(program: Program, constants: dict[str, np.ndarray] | None = None, **labels: QParams) -> Program:
    """The layer with other labels, and what follows from them."""
    (layer,) = program.instructions
    layer = replace(layer, labels={**layer.labels, **labels}, constants={**layer.constants, **(constants or {})})
    inputs = [program.tensors[name] for name in layer.inputs]
    derived = REGISTRY[layer.op].derive(layer, inputs, program.tensors[layer.name])
    return replace(program, instructions=(complete(layer, derived),))


def with_narrow_state(program: Program) -> Program:
    """An svdf whose state and weights in time are of 8 bits, and whose state often saturates."""
    (layer,) = program.instructions
    time = np.random.default_rng(2).integers(-127, 128, layer.constants["time"].shape).astype(np.int8)
    scale, time_scale = (layer.labels[role].scale[0] for role in ("state", "time"))
    labels = {"state": QParams((float32(scale * 32),)), "time": QParams((float32(time_scale * 4),))}
    return relabelled(program, {"time": time}, **labels)


def in_a_row(program: Program, batch: int = 2) -> Iterator[list[np.ndarray]]:
    for run in range(RUNS):
        yield codes_for(program, batch, f"run {run}")


def assert_the_oracle_agrees(program: Program) -> None:
    """Outputs and states, over several runs."""
    program.verify()
    memory: Memory = {}
    remembered: Memory = {}
    for inputs in in_a_row(program):
        found = interpret(program, inputs, memory)[0]
        np.testing.assert_array_equal(found, by_oracle_remembering(program, inputs, remembered))
        assert memory["out"].keys() == remembered["out"].keys()
        for role, codes in remembered["out"].items():
            np.testing.assert_array_equal(memory["out"][role], codes, err_msg=role)


# one meaning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operator", "case", "draw"), REMEMBERING)
def test_runs_in_a_row(operator: Operator, case: Case, draw: Draw) -> None:
    assert_the_oracle_agrees(carried(build(operator, case, draw)))


@pytest.mark.parametrize("draw", [d for d in DRAWS if d.scheme == "int8"], ids=lambda d: d.name)
def test_a_state_of_8_bits(draw: Draw) -> None:
    program = with_narrow_state(program_of("svdf", "rank 2", draw))
    assert_the_oracle_agrees(program)
    memory: Memory = {}
    for inputs in in_a_row(program):
        interpret(program, inputs, memory)
    assert {-128, 127} & set(memory["out"]["state"].reshape(-1).tolist())


@pytest.mark.parametrize("clip", [1, 900, 2**15 - 1])
def test_a_cell_that_is_clipped(clip: int) -> None:
    program = attribute("out", "cell_clip", lambda _: clip)(program_of("lstm", "carried"))
    assert_the_oracle_agrees(program)
    memory: Memory = {}
    for inputs in in_a_row(program):
        interpret(program, inputs, memory)
    greatest = int(abs(memory["out"]["cell"]).max())
    assert greatest == clip if clip < 2**15 - 1 else greatest > 900


@pytest.mark.parametrize("exponent", [-20, -15, -12, -11, -3, 0])
def test_every_scale_of_a_cell(exponent: int) -> None:
    cell = QParams((2.0**exponent,), 0, "int16", 16)
    assert_the_oracle_agrees(relabelled(program_of("lstm", "carried"), cell=cell))


@pytest.mark.parametrize(("operator", "case", "draw"), REMEMBERING)
def test_factors_are_formed_as_the_oracle_forms_them(operator: Operator, case: Case, draw: Draw) -> None:
    """A factor's last bits seldom reach a code: they are compared themselves."""
    program = build(operator, case, draw)
    (layer,) = program.instructions
    found, expected = layer.attributes, oracle_factors(program, layer)
    if layer.op == "lstm":
        pairs = zip(layer.constants["multiplier"].tolist(), layer.constants["shift"].tolist(), strict=True)
        assert [*pairs] == expected["gates"]
    for name in expected.keys() - {"gates"}:
        assert (found[f"{name}multiplier"], found[f"{name}shift"]) == expected[name], name


def oracle_factors(program: Program, layer: Instruction) -> dict[str, Any]:
    """By the beginnings of the attributes' names."""
    source, output = (program.tensors[name].qparams.scale[0] for name in ("x0", "out"))
    scales = {role: label.scale for role, label in layer.labels.items()}
    if layer.op == "svdf":
        into, out = oracle.svdf_factors((source, scales["weight"][0], scales["state"][0], scales["time"][0], output))
        return {"feature_": into, "": out}
    nothing = oracle.Tensor((0,), [])
    gates = (scales["weight"], scales["recurrent"])
    cell = scales["cell"][0]
    of = oracle.Lstm(nothing, nothing, nothing, *gates, (source, cell, output), (0, 0), 0, (0, 0), "double")
    pairs = [of.gate_factors(gate) for gate in range(4)]
    kept, added_to, made = of.cell_factors()
    assert kept == (2**30, -14)  # which no attribute says: it is the same for every layer
    return {"gates": [*(p[0] for p in pairs), *(p[1] for p in pairs)], "cell_": added_to, "output_": made}


# beginning and going on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "case"), [("svdf", "rank 2"), ("lstm", "carried")])
def test_a_run_without_memory_begins_anew(op: str, case: str) -> None:
    program = program_of(op, case)
    assert remembers(program)
    memory: Memory = {}
    inputs = codes_for(program, 2, "again")
    anew, begun = by_interpreter(program, inputs), interpret(program, inputs, memory)[0]
    np.testing.assert_array_equal(begun, anew)
    assert (interpret(program, inputs, memory)[0] != anew).any()
    np.testing.assert_array_equal(by_interpreter(program, inputs), anew)
    np.testing.assert_array_equal(interpret(program, inputs, {})[0], anew)


@pytest.mark.parametrize("case", ["many steps", "carried"])
def test_a_layer_that_is_not_carried_never_remembers(case: str) -> None:
    program = attribute("out", "carried", lambda _: 0)(program_of("lstm", case))
    assert not remembers(program)
    memory: Memory = {}
    inputs = codes_for(program, 2, "again")
    runs = [interpret(program, inputs, memory)[0] for _ in range(2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert memory == {}
    np.testing.assert_array_equal(interpret(program, [x[:1] for x in inputs], memory)[0], runs[0][:1])


def test_a_sequence_in_parts_is_the_sequence() -> None:
    """An lstm that is carried gives after 2 and 3 steps what it gives after 5."""
    program = program_of("lstm", "carried")
    (codes,) = codes_for(program, 2, "whole")
    whole, memory = by_interpreter(program, [codes]), {}
    for part in (slice(0, 2), slice(2, 5)):
        cut = codes[:, part]
        found = interpret(of_steps(program, cut.shape[1]), [cut], memory)[0]
        np.testing.assert_array_equal(found, whole[:, part])


def of_steps(program: Program, steps: int) -> Program:
    """The same layer on a sequence of another length."""
    tensors = {n: replace(t, shape=(BATCH, steps, t.shape[2])) for n, t in program.tensors.items()}
    ports = [
        tuple(replace(p, shape=tensors[p.value].shape) for p in ends) for ends in (program.inputs, program.outputs)
    ]
    changed = replace(program, inputs=ports[0], outputs=ports[1], tensors=tensors)
    changed.verify()
    return changed


@pytest.mark.parametrize(("op", "case"), [("svdf", "rank 1"), ("lstm", "carried")])
@pytest.mark.parametrize("batch", [1, 3])
def test_another_batch_is_refused_and_nothing_forgotten(op: str, case: str, batch: int) -> None:
    program = program_of(op, case)
    memory: Memory = {}
    interpret(program, codes_for(program, 2, "first"), memory)
    undisturbed = dict(memory)
    with pytest.raises(InputError, match=f"layer out remembers 2 samples, found a batch of {batch}: begin anew"):
        interpret(program, codes_for(program, batch, "second"), memory)
    second = codes_for(program, 2, "second")
    np.testing.assert_array_equal(interpret(program, second, memory)[0], interpret(program, second, undisturbed)[0])


def spotter() -> Program:
    """svdf -> reshape -> lstm: two layers that remember."""
    rng = np.random.default_rng(3)
    shapes = {
        "a": {"weight": (8, 6), "time": (8, 5), "bias": (4,)},
        "b": {"weight": (4, 3, 4), "recurrent": (4, 3, 3), "bias": (4, 3)},
    }
    arrays = {f"{n}.{role}": rng.normal(0, 0.5, shape) for n, roles in shapes.items() for role, shape in roles.items()}
    params = {n: {role: Param(f"{n}.{role}") for role in roles} for n, roles in shapes.items()}
    nodes = (
        Node("a", "svdf", ("x",), (BATCH, 4), {"rank": 2}, params["a"]),
        Node("row", "reshape", ("a",), (BATCH, 1, 4), {"shape": (BATCH, 1, 4)}),
        Node("b", "lstm", ("row",), (BATCH, 1, 3), {"carried": 1}, params["b"]),
    )
    ports = (Port("x", "x", (BATCH, 6), (0, 1)),), (Port("y", "b", (BATCH, 1, 3), (0, 1, 2)),)
    labels = {n: qparams_from_range(-top, top) for n, top in {"x": 2, "a": 3, "row": 3, "b": 1}.items()}
    return lower(Graph(ports[0], nodes, ports[1]), Quantization(labels), arrays.__getitem__)


def test_layers_and_samples_remember_apart() -> None:
    program = spotter()
    together: Memory = {}
    alone: list[Memory] = [{}, {}, {}]
    for inputs in in_a_row(program, 3):
        found = interpret(program, inputs, together)[0]
        for sample, memory in enumerate(alone):
            one = interpret(program, [inputs[0][sample : sample + 1]], memory)[0]
            np.testing.assert_array_equal(one, found[sample : sample + 1])
    assert {name: set(states) for name, states in together.items()} == {"a": {"state"}, "b": {"hidden", "cell"}}


@pytest.mark.parametrize("name", ["svdf", "svdf of 8 bits", "lstm", "spotter"])
def test_a_saved_program_goes_on_alike(name: str, tmp_path: Path) -> None:
    program = {
        "svdf": lambda: program_of("svdf", "rank 3, a tail"),
        "svdf of 8 bits": lambda: with_narrow_state(program_of("svdf", "rank 1")),
        "lstm": lambda: attribute("out", "cell_clip", lambda _: 900)(program_of("lstm", "carried")),
        "spotter": spotter,
    }[name]()
    path = tmp_path / "net.unfloat"
    program.save(path)
    loaded = unfloat.load(path)
    assert loaded.digest() == program.digest()
    assert [i.labels for i in loaded.instructions] == [i.labels for i in program.instructions]
    memory: Memory = {}
    again: Memory = {}
    for inputs in in_a_row(program):
        np.testing.assert_array_equal(interpret(loaded, inputs, again)[0], interpret(program, inputs, memory)[0])


# what is proved -------------------------------------------------------------------------------------------------------


def test_a_certificate_names_what_is_remembered() -> None:
    program = spotter()
    found = {value.name: value for value in program.verify().ranges}
    assert [*found] == ["x", "a", "a/state", "row", "b", "b/hidden", "b/cell"]
    assert {found[name].op for name in ("a/state", "b/hidden", "b/cell")} == {"state"}
    state = program.instructions[0].labels["state"]
    assert (found["a/state"].dtype, found["a/state"].least, found["a/state"].greatest) == ("int16", -(2**15), 2**15 - 1)
    assert found["a/state"].real_greatest == state.scale[0] * (2**15 - 1)
    assert (found["b/cell"].dtype, found["b/cell"].real_least) == ("int16", -16.0)  # as an lstm without end needs it
    hidden, output = found["b/hidden"], found["b"]
    assert (hidden.dtype, hidden.least, hidden.greatest) == (output.dtype, output.least, output.greatest)
    anew = attribute("b", "carried", lambda _: 0)(program)
    assert [value.name for value in anew.verify().ranges] == ["x", "a", "a/state", "row", "b"]


@pytest.mark.parametrize(("operator", "case", "draw"), REMEMBERING)
def test_states_stay_in_their_ranges(operator: Operator, case: Case, draw: Draw) -> None:
    program = carried(build(operator, case, draw))
    found = {value.name: value for value in program.verify().ranges}
    memory: Memory = {}
    for inputs in in_a_row(program):
        interpret(program, inputs, memory)
        for role, codes in memory["out"].items():
            assert found[f"out/{role}"].least <= codes.min()
            assert codes.max() <= found[f"out/{role}"].greatest


def at_the_edge(program: Program, excess: int) -> Program:
    """The first output's bias with which its accumulator can just reach 2^31 - 1, and `excess` more."""
    (layer,) = program.instructions
    if layer.op == "svdf":
        rows = layer.constants["time"].astype(np.int64).reshape(layer.constants["bias"].size, -1)
        ends = np.array([-(2**15), 2**15 - 1])
    else:
        rows, label = layer.constants["weight"][0].astype(np.int64), program.tensors["x0"].qparams
        ends = np.array([label.qmin, label.qmax]) - label.zero_point
    greatest = int(np.maximum(rows * ends[0], rows * ends[1]).sum(axis=1)[0])
    return constant("out", "bias", first(2**31 - 1 - greatest + excess))(program)


@pytest.mark.parametrize("op", ["svdf", "lstm"])
def test_the_last_accumulator_that_fits_is_proved(op: str) -> None:
    program = program_of(op, {"svdf": "rank 2", "lstm": "carried"}[op])
    (bound,) = at_the_edge(program, 0).verify().bounds
    assert (bound.greatest, bound.bits) == (2**31 - 1, 32)
    with pytest.raises(InvalidProgramError, match=rf"instruction out \({op}\).*accumulators that fit int32"):
        at_the_edge(program, 1).verify()


def role_label(role: str, **changes: Any) -> Break:
    """The layer's label of a role changed, and nothing else."""
    return with_layer("out", lambda i: replace(i, labels={**i.labels, role: replace(i.labels[role], **changes)}))


def of_three_gates(program: Program) -> Program:
    """Constants and labels of one gate less."""

    def cut(layer: Instruction) -> Instruction:
        constants = {
            role: a[:3] if role in ("weight", "recurrent", "bias") else a for role, a in layer.constants.items()
        }
        labels = {r: replace(a, scale=a.scale[:3]) if a.axis == 0 else a for r, a in layer.labels.items()}
        return replace(layer, constants=constants, labels=labels)

    return with_layer("out", cut)(program)


def without_label(role: str) -> Break:
    return with_layer("out", lambda i: replace(i, labels={r: a for r, a in i.labels.items() if r != role}))


SVDF: dict[str, tuple[Break, str]] = {
    "a factor into the state": (attribute("out", "feature_multiplier", added(1)), "feature_multiplier = "),
    "a shift out of it": (attribute("out", "shift", added(-1)), "shift = "),
    "a state's bits": (attribute("out", "state_bits", lambda _: 8), "state_bits = 16"),
    "a state's scale that nothing follows": (role_label("state", scale=(0.5,)), "feature_multiplier = |feature_shift = "),
    "a state of uint8": (role_label("state", dtype="uint8", bits=8), "a state of int8 or int16"),
    "a state stored unlike time": (role_label("state", dtype="int8", bits=8), "weights in time stored alike"),
    "a state without its lowest code": (
        lambda program: with_layer(
            "out", lambda i: replace(i, labels={**i.labels, "state": replace(i.labels["state"], narrow=True)})
        )(with_narrow_state(program)),
        "state whose lowest code is used",
    ),
    "a state that is not symmetric": (
        lambda program: role_label("state", zero_point=1)(with_narrow_state(program)),
        "a symmetric state",
    ),
    "a state of fewer bits": (
        lambda program: role_label("state", bits=4)(with_narrow_state(program)),
        "state_bits = 4",
    ),
    "no label of the state": (without_label("state"), "labels for"),
    "weights along channels": (role_label("weight", scale=(0.5,) * 10, axis=0), "labels per tensor"),
    "weights that are not symmetric": (role_label("weight", zero_point=1), "symmetric weights of int8"),
    "weights of uint8": (
        lambda program: constant("out", "weight", lambda w: (w.astype(int) + 128).astype(np.uint8))(
            role_label("weight", dtype="uint8", zero_point=128)(program)
        ),
        "symmetric weights of int8",
    ),
    "time of other codes": (constant("out", "time", lambda t: t.astype(np.int8)), "time of int16"),
    "a rank that does not divide its filters": (attribute("out", "rank", lambda _: 3), "whole outputs"),
    "a rank of its divisors, but another": (attribute("out", "rank", lambda _: 5), "a bias for each of 2 outputs"),
    "a code outside its label": (constant("out", "weight", first(-128)), r"weight codes in \[-127, 127\]"),
    "a filter without time": (constant("out", "time", lambda t: t[:-1]), "a row in time for each filter"),
    "an accumulator that overflows": (constant("out", "bias", first(2**31 - 1)), "accumulators that fit int32"),
    "an output of 16 bits": (label("out", dtype="int16", bits=16, zero_point=0), "codes of int8"),
}  # fmt: skip
LSTM: dict[str, tuple[Break, str]] = {
    "a gate's factor": (constant("out", "multiplier", lambda m: m + np.int32(1)), r"multiplier\[0\] = "),
    "a gate's shift": (constant("out", "shift", lambda s: s - np.int8(1)), r"shift\[0\] = "),
    "a factor into the cell": (attribute("out", "cell_multiplier", added(1)), "cell_multiplier = "),
    "a factor out of it": (attribute("out", "output_shift", added(1)), "output_shift = "),
    "a factor of the curve": (attribute("out", "curve_shift", added(1)), "curve_shift = "),
    "a table of another curve": (constant("out", "table", first(7)), r"table\[0, 0\] = "),
    "a cell's scale that is no power of two": (role_label("cell", scale=(3 * 2.0**-12,)), "a power of two"),
    "a cell's scale that is too large": (role_label("cell", scale=(2.0,)), "a power of two, 2\\^-20 to 1"),
    "a cell's scale that is too small": (role_label("cell", scale=(2.0**-21,)), "a power of two, 2\\^-20 to 1"),
    "a cell of another power": (role_label("cell", scale=(2.0**-9,)), "cell_shift = "),
    "a cell of int8": (role_label("cell", dtype="int8", bits=8), "a cell of int16"),
    "a cell with two scales": (role_label("cell", scale=(2.0**-11,) * 2, axis=0), "one scale"),
    "no label of the cell": (without_label("cell"), "labels for"),
    "a clip outside the cell": (attribute("out", "cell_clip", lambda _: 2**15), "cell_clip to be"),
    "three gates": (of_three_gates, "a weight of four gates"),
    "a gate's bias left out": (constant("out", "bias", lambda b: b[:3]), "square recurrent weights"),
    "recurrent weights of other units": (constant("out", "recurrent", lambda w: w[:, :, :-1]), "square recurrent"),
    "scales along units": (role_label("weight", scale=(0.5,) * 16, axis=1), "a scale for each gate"),
    "weights that are not symmetric": (role_label("recurrent", zero_point=1), "a symmetric recurrent"),
    "a code outside its label": (constant("out", "recurrent", first(-128)), r"recurrent codes in \[-127, 127\]"),
    "an accumulator that overflows": (constant("out", "bias", first(2**31 - 1)), "accumulators that fit int32"),
    "a wrong end of tanh": (constant("out", "table", lambda t: t + (np.arange(514).reshape(2, 257) == 326)), r"table\[1, 69\] = "),
    "a product that overflows": (label("out", scale=(2.0**-30,)), "an output scale above 2\\^-30"),
    "carried by half": (attribute("out", "carried", lambda _: 2), "carried to be"),
    "an input of 16 bits": (label("x0", dtype="int16", bits=16, zero_point=0), "codes of int8"),
}  # fmt: skip


@pytest.mark.parametrize(("op", "name"), [*(("svdf", name) for name in SVDF), *(("lstm", name) for name in LSTM)])
def test_broken_programs_are_caught_by_name(op: str, name: str) -> None:
    broken, message = {"svdf": SVDF, "lstm": LSTM}[op][name]
    program = program_of(op, {"svdf": "rank 2", "lstm": "carried"}[op])
    with pytest.raises(InvalidProgramError, match=rf"instruction out \({op}\): .*({message})"):
        broken(program).verify()


@pytest.mark.parametrize("op", ["svdf", "lstm"])
def test_labels_that_cannot_be_lowered_are_named(op: str) -> None:
    program = program_of(op, {"svdf": "rank 2", "lstm": "carried"}[op])
    wrong = {"svdf": {"state": QParams((0.5,))}, "lstm": {"cell": QParams((float32(0.3),), 0, "int16", 16)}}[op]
    with pytest.raises(NumericDomainError, match=f"{op} needs"):
        relabelled(program, **wrong)
