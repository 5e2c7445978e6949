"""Exported C, compiled as strictly as can be and run: 0 mismatches with the interpreter on every target."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.microcontrollers import instructions, pointwise

import unfloat
from tests.conformance.generate import DRAWS, Draw, all_cases, build
from tests.formats.c_targets import CORTEX_M4, CORTEX_M7, CORTEX_M55, HOST, TARGETS, Target, build_and_run
from tests.program.nets import small_net
from unfloat.formats.c.layer import Prepared
from unfloat.formats.c.names import require_name
from unfloat.formats.c.net import _constants, make_net
from unfloat.formats.c.picture import pixel_table
from unfloat.formats.c.report import code_bytes, merged
from unfloat.formats.c.table import EMITTERS
from unfloat.formats.c.text import array, comment, identifier, identifiers, initialiser
from unfloat.ops._linear import derive_linear
from unfloat.program.program import Program
from unfloat.quant.recipe import InputSpec, Recipe
from unfloat.spec.errors import ExportError

HOST_STEP, CROSS_STEP = 7, 8  # shares of the cases: all of them at once take minutes to compile
CROSS = [pytest.param(t, id=t.name, marks=[] if t is HOST else pytest.mark.cross) for t in TARGETS]


def renamed(program: Program, name: Callable[[str], str]) -> Program:
    """The same Program under other names of ports, tensors and layers."""
    ports = [
        tuple(replace(p, name=name(p.name), value=name(p.value)) for p in side)
        for side in (program.inputs, program.outputs)
    ]
    tensors = {name(n): replace(t, name=name(n)) for n, t in program.tensors.items()}
    instructions = tuple(replace(i, name=name(i.name), inputs=tuple(map(name, i.inputs))) for i in program.instructions)
    return Program(ports[0], ports[1], tensors, instructions)


def joined(parts: Sequence[Program]) -> Program:
    """One Program that computes all of them; their names differ."""
    outputs = tuple(port for part in parts for port in part.outputs)
    return Program(
        tuple(port for part in parts for port in part.inputs),
        outputs,
        {name: tensor for part in parts for name, tensor in part.tensors.items()},
        tuple(instruction for part in parts for instruction in part.instructions),
        ("tuple", len(outputs)),
    )


def side_by_side(programs: Sequence[Program]) -> Program:
    """One Program that computes all of them, each from inputs of its own."""
    return joined([renamed(program, f"n{i}_{{}}".format) for i, program in enumerate(programs)])


def cases(draw: Draw, step: int = 1, first: int = 0) -> Program:
    """Every conformance case, or every so many of them from the first on, under one draw."""
    known = [(operator, case) for operator, case in all_cases() if operator.name in EMITTERS]
    fitting = [(operator, case) for operator, case in known if draw.storage in operator.storages]
    return side_by_side([build(operator, case, draw) for operator, case in fitting[first::step]])


def share(draw: Draw, step: int) -> Program:
    """One of `step` shares of all cases, which differs from draw to draw."""
    return cases(draw, step, DRAWS.index(draw) % step)


def passes(folder: Path, target: Target, scratch: Path, optimize: str = "-O2") -> str:
    outcome = build_and_run(folder, target, scratch, optimize)
    assert outcome.status == 0, outcome.text
    assert outcome.text.endswith("PASS\n")
    return outcome.text


def check_syntax(compiler: str, source: Path, folder: Path, *flags: str) -> None:
    include = (f"-I{folder}", f"-I{folder / 'kernels'}")
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", *flags, *include, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports whose report does not say how large the code is, which another compiler would be asked."""
    monkeypatch.setattr("unfloat.formats.c.report.code_bytes", lambda name, folder: None)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("draw", DRAWS, ids=lambda d: d.name)
def test_every_case_on_this_machine(draw: Draw, tmp_path: Path) -> None:
    """Each draw with every so many of the cases, another share each: all cases under several draws."""
    share(draw, HOST_STEP).export(tmp_path, name="net", samples=3)
    passes(tmp_path, HOST, tmp_path, "-O1")


@pytest.mark.cross
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("target", "name"),
    [(target, name) for target in (CORTEX_M4, CORTEX_M55) for name in ("int8", "int8-ties", "int8-single", "uint8")]
    + [(CORTEX_M4, "int16x8")],  # Helium has no loops of its own for words
    ids=lambda x: getattr(x, "name", x),
)
def test_every_case_on_a_microcontroller(target: Target, name: str, tmp_path: Path) -> None:
    share(next(draw for draw in DRAWS if draw.name == name), CROSS_STEP).export(f"{tmp_path}/", to="c", name="net")
    passes(tmp_path, target, tmp_path, "-Os")


def with_factors(program: Program, factors: np.ndarray) -> Program:
    """The same lone convolution, the scales of its weights multiplied by powers of two, one a channel.

    Weights are smaller, so that not all results saturate, and too large for 4 bits, whose kernel is another.
    """
    (layer,) = program.instructions
    label = layer.labels["weight"]
    label = replace(
        label, scale=tuple(float(scale * factor) for scale, factor in zip(label.scale, factors, strict=True))
    )
    layer = replace(layer, labels={"weight": label})
    tensors = [program.tensors[name] for name in ("x", layer.name)]
    derived = derive_linear(layer, tensors[:1], tensors[1])
    constants = {**layer.constants, "weight": layer.constants["weight"] // 8, "bias": layer.constants["bias"] // 512}
    constants |= {name: derived[name] for name in ("multiplier", "shift")}
    return replace(program, instructions=(replace(layer, constants=constants),))


@pytest.mark.cross
@pytest.mark.parametrize("target", [CORTEX_M4, CORTEX_M55], ids=lambda t: t.name)
def test_factors_of_every_kind_side_by_side(target: Target, tmp_path: Path) -> None:
    """Outputs of a strip are rescaled in pairs, by one loop where both factors are below 1/2, else by another."""
    usual, left, zero = 0, 10, -60  # powers of two: the last one leaves a multiplier of 0
    powers = [usual, left, left, usual, usual, zero, zero, usual, left, left, zero, left, usual, usual, zero, zero]
    program = with_factors(pointwise(16, (5, 7), 1), 2.0 ** np.array(powers))
    program.export(tmp_path, name="net", samples=5)
    passes(tmp_path, target, tmp_path)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("target", CROSS)
def test_networks_share_kernels_and_an_arena(target: Target, tmp_path: Path) -> None:
    small_net().export(tmp_path, name="first", samples=3)
    wide = next(draw for draw in DRAWS if draw.name == "int16x8")
    cases(wide, 40).export(tmp_path, name="second")
    text = passes(tmp_path, target, tmp_path)
    assert text == "first: PASS (0)\nsecond: PASS (0)\nPASS\n"
    report = (tmp_path / "REPORT.md").read_text()
    assert report.startswith("# first\n")
    assert "\n# second\n" in report


def test_kernels_name_their_licence(tmp_path: Path) -> None:
    small_net().export(tmp_path, name="net")
    kernels = [path for path in (tmp_path / "kernels").rglob("*") if path.is_file()]
    assert kernels
    assert all(path.read_text().startswith("// SPDX-License-Identifier: Apache-2.0\n") for path in kernels)


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    mine = {"main.c": "int my_firmware;\n", "REPORT.md": "# my notes\n", "kernels/kernel.h": "// mine\n"}
    for path, text in mine.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    listed = r"that Unfloat has not written: REPORT\.md, kernels/kernel\.h, main\.c; export into a folder of its own"
    with pytest.raises(ExportError, match=listed):
        small_net().export(tmp_path, to="c", name="net")
    assert {path: (tmp_path / path).read_text() for path in mine} == mine
    assert not (tmp_path / "net.c").exists()
    for path in mine:
        (tmp_path / path).rename(tmp_path / f"my_{Path(path).name}")
    for name in ("net", "net", "other"):  # what it has written it may write again
        small_net().export(tmp_path, to="c", name=name)
    (tmp_path / "unfloat.json").write_text("{")  # an export that was damaged
    small_net().export(tmp_path, to="c", name="net")


def test_sanitized(tmp_path: Path) -> None:
    small_net().export(tmp_path, name="net", samples=3)
    sanitizer = replace(HOST, flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"))
    passes(tmp_path, sanitizer, tmp_path)


def test_cmake_builds_and_checks(tmp_path: Path) -> None:
    small_net().export(tmp_path / "net", to="c", name="kws")
    for command in (["-S", "net", "-B", "build"], ["--build", "build"]):
        subprocess.run(["cmake", *command], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(["build/golden"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "kws: PASS (0)\nPASS\n"


OWN_FILES = ("dsp_golden.c", "motor_weights.c", "motor.c", "kernels/os/sched.c", "kernels/conv2d/mine.c")


def test_a_firmwares_own_files_may_lie_in_the_folder(tmp_path: Path) -> None:
    """Whatever their names: neither another export nor the folder's build takes them for a network or a kernel."""
    folder = tmp_path / "net"
    small_net().export(folder, to="c", name="first")
    for path in OWN_FILES:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("#error of the firmware alone\n")
    small_net().export(folder, to="c", name="second")
    for command in (["-S", "net", "-B", "build"], ["--build", "build"]):
        subprocess.run(["cmake", *command], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(["build/golden"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "first: PASS (0)\nsecond: PASS (0)\nPASS\n"


def test_a_kernel_of_another_version_stays(tmp_path: Path) -> None:
    """One that this version has no source for: the network that calls it still finds it."""
    small_net().export(tmp_path, name="first")
    kernel = "kernels/conv2d/older.c"
    (tmp_path / kernel).write_text("int older;\n")
    said = json.loads((tmp_path / "unfloat.json").read_text())
    said["files"][kernel] = "0" * 64
    (tmp_path / "unfloat.json").write_text(json.dumps(said))
    small_net().export(tmp_path, name="second")
    assert f"\n  {kernel}\n" in (tmp_path / "CMakeLists.txt").read_text()
    assert json.loads((tmp_path / "unfloat.json").read_text())["files"][kernel] == "0" * 64


def test_a_wrong_weight_fails(tmp_path: Path) -> None:
    """The golden check can fail."""
    net = small_net()
    net.export(tmp_path, name="net", samples=3)
    weights = tmp_path / "net_weights.c"
    text = weights.read_text()
    start = text.index("{\n", text.index("const int32_t net__fc__bias[5] = ")) + 2
    weights.write_text(text[:start] + "    9999 + " + text[start:].lstrip())
    outcome = build_and_run(tmp_path, HOST, tmp_path)
    assert outcome.status == 1
    assert outcome.text.endswith("FAIL\n")


BORDER = """
#include <stdio.h>
#include <string.h>
#include "net.h"

static union { int64_t alignment; uint8_t bytes[NET_ARENA_BYTES + 8]; } arena;
static int8_t x[NET_INPUT_X_COUNT], y[NET_OUTPUT_Y_COUNT], again[NET_OUTPUT_Y_COUNT];

int main(void) {
  for (int i = 0; i < NET_INPUT_X_COUNT; ++i) x[i] = (int8_t)(37 * i);
  const net_inputs inputs = {.x = x}, none = {.x = NULL};
  net_outputs outputs = {.y = y}, nowhere = {.y = NULL};
  if (net_run(NULL, &inputs, &outputs) != NET_NULL_POINTER) return 1;
  if (net_run(&arena, NULL, &outputs) != NET_NULL_POINTER) return 2;
  if (net_run(&arena, &none, &outputs) != NET_NULL_POINTER) return 3;
  if (net_run(&arena, &inputs, &nowhere) != NET_NULL_POINTER) return 4;
  if (net_run(arena.bytes + 1, &inputs, &outputs) != NET_ARENA_MISALIGNED) return 5;
  if (net_run_in(&arena, NET_ARENA_BYTES - 1, &inputs, &outputs) != NET_ARENA_TOO_SMALL) return 6;
  if (net_run_in(&arena, NET_ARENA_BYTES, &inputs, &outputs) != NET_OK) return 7;
  for (int i = 0; i < 8; ++i) if (arena.bytes[NET_ARENA_BYTES + i] != 0) return 8;
  memcpy(net_input_x(&arena), x, sizeof x);
  const net_inputs inside = {.x = net_input_x(&arena)};
  net_outputs there = {.y = net_output_y(&arena)};
  if (net_run(&arena, &inside, &there) != NET_OK) return 9;
  memcpy(again, there.y, sizeof again);
  if (memcmp(again, y, sizeof y) != 0) return 10;
  return 0;
}
"""


def test_the_border_refuses_and_takes_what_lies_in_the_arena(tmp_path: Path) -> None:
    small_net().export(tmp_path, name="net")
    (tmp_path / "main.c").write_text(BORDER)
    (tmp_path / "net_golden.c").unlink()
    assert build_and_run(tmp_path, HOST, tmp_path).status == 0


def test_outputs_that_are_inputs_constants_or_repeated(tmp_path: Path) -> None:
    net = small_net()
    x, y = net.inputs[0], net.outputs[0]
    outputs = (y, replace(y, name="again"), replace(x, name="image"), replace(y, name="Again"))
    replace(net, outputs=outputs, structure=("tuple", 4)).export(tmp_path, name="net", samples=2)
    passes(tmp_path, HOST, tmp_path)


def test_a_constant_operand(tmp_path: Path) -> None:
    draw = DRAWS[0]
    pair = [build(o, c, draw) for o, c in all_cases() if o.name in ("add", "mul") and len(set(c.inputs)) == 1]
    made = []
    for program in pair:
        tensor = program.tensors["x1"]
        codes = np.random.default_rng(5).integers(-128, 128, (1, *tensor.shape[1:])).astype(np.int8)
        constant = replace(tensor, shape=codes.shape, data=codes)
        made.append(replace(program, inputs=program.inputs[:1], tensors={**program.tensors, "x1": constant}))
    side_by_side(made).export(tmp_path, name="net", samples=3)
    passes(tmp_path, HOST, tmp_path)


def test_no_two_constants_share_a_symbol(tmp_path: Path) -> None:
    """Neither of two networks nor of two layers, whose names begin or end alike: each keeps its own numbers."""
    first = renamed(small_net(), lambda name: {"fc": "wide.fc"}.get(name, name))
    for name, program in (("kws", first), ("kws_wide", small_net())):
        program.export(tmp_path / "networks", to="c", name=name)
    passes(tmp_path / "networks", HOST, tmp_path)
    operator, case = next((o, c) for o, c in all_cases() if o.name == "fully_connected")
    words = next(draw for draw in DRAWS if draw.name == "int16x8")  # its bias has the role wide_bias
    layers = [build(operator, case, words), build(operator, case, DRAWS[0])]
    last = [program.instructions[-1].name for program in layers]
    parts = [
        renamed(program, lambda old, new=new, end=end: new if old == end else f"{new}_{old}")  # type: ignore[misc]
        for program, new, end in zip(layers, ("fc", "fc_wide"), last, strict=True)
    ]
    joined(parts).export(tmp_path / "layers", to="c", name="net", samples=3)
    passes(tmp_path / "layers", HOST, tmp_path)


def test_a_constant_is_never_put_in_the_place_of_another() -> None:
    net = make_net(small_net(), "net", [Prepared(*layer) for layer in small_net().compile(level="scalar").layers()])
    alike = replace(net, symbols=dict.fromkeys(net.symbols, "layer"))
    with pytest.raises(RuntimeError, match=r"share a symbol: .*'net__layer__bias'"):
        _constants(alike)


# The picture ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_pictures_load_as_the_float_border_has_them(order: str, tmp_path: Path) -> None:
    """All 256 values of each channel, through the engine's border and through the exported table."""
    spec = InputSpec((6, 5), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), order=order)
    net = small_net()
    net = replace(net, metadata={"recipe": replace(Recipe(), input=spec).to_toml()})
    label = net.tensors["x"].qparams
    net.export(tmp_path, name="net")
    assert "net_load_rgb888(const uint8_t *pixels, int8_t *codes);" in (tmp_path / "net.h").read_text()
    pixels = np.arange(256, dtype=np.float32)[:, None, None, None]
    planes = (np.broadcast_to(pixels, (256, 6, 5, 3)) - np.float32(spec.mean)) / np.float32(spec.std)
    image = replace(net.inputs[0], name="image", permutation=(0, 1, 2, 3))
    border = replace(net, outputs=(image, *net.outputs), structure=("tuple", 2)).compile()
    reals = border(np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))[0]  # dequantized codes
    codes = np.rint(reals[:, 0, 0] / np.float32(label.scale[0])) + label.zero_point
    np.testing.assert_array_equal(pixel_table(label, spec), codes.T)
    main = """
#include <stdio.h>
#include "net.h"
int main(void) {
  for (int value = 0; value < 256; ++value) {
    static uint8_t pixels[90];
    static int8_t x[90];
    for (int i = 0; i < 90; ++i) pixels[i] = (uint8_t)(value + i % 3);
    net_load_rgb888(pixels, x);
    printf("%d %d %d\\n", x[87], x[88], x[89]);
  }
  return 0;
}
"""
    (tmp_path / "main.c").write_text(main)
    (tmp_path / "net_golden.c").unlink()
    found = np.array([line.split() for line in build_and_run(tmp_path, HOST, tmp_path).text.splitlines()], int)
    source = [0, 1, 2] if order == "RGB" else [2, 1, 0]
    expected = [[codes[(v + source[c]) % 256, c] for c in range(3)] for v in range(256)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["pixels", "codes", "i", "c"])
def test_an_input_may_be_named_as_what_loads_pictures_names_things(name: str, tmp_path: Path) -> None:
    net = small_net()
    recipe = replace(Recipe(), input=InputSpec((6, 5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))).to_toml()
    named = replace(net, inputs=(replace(net.inputs[0], name=name),), metadata={"recipe": recipe})
    named.export(tmp_path, name="net")
    assert "net_load_rgb888" in (tmp_path / "net.c").read_text()
    check_syntax("gcc", tmp_path / "net.c", tmp_path)


# What is written ------------------------------------------------------------------------------------------------------


def test_every_operator_has_an_emitter() -> None:
    assert {operator.name for operator, _ in all_cases()} - set(EMITTERS) == set()


def test_unknown_operators_are_named_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unfloat.formats.c import net as room

    monkeypatch.setattr(room, "EMITTERS", {})
    with pytest.raises(ExportError, match=r"(?s)a \(conv2d\).*sum \(add\).*fc \(fully_connected\)"):
        small_net().export(tmp_path)


def test_names(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="try 'key_words'"):
        small_net().export(tmp_path, name="key-words")
    small_net().export(tmp_path / "2nd net", to="c")
    assert (tmp_path / "2nd net/_2nd_net.h").is_file()
    with pytest.raises(ExportError, match="ends in /"):
        small_net().export(tmp_path / "net.c")
    for path, option in (("net.tflite", {"name": "net"}), ("net/", {"float_border": True})):
        with pytest.raises(ExportError, match=f"takes the options .*, found {next(iter(option))}"):
            small_net().export(f"{tmp_path}/{path}", **option)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write"):
        small_net().export(f"{tmp_path}/file/", to="c")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "a target of the folder's build") for name in ("main", "Main", "golden", "all", "test", "clean")),
        *((name, "a target of the folder's build") for name in ("help", "install", "package", "unfloat_kernels")),
        *((name, "the name of a header of C") for name in ("string", "stdint", "math", "features")),
        *((name, "the name of a kernels' header") for name in ("kernel", "qmath_functions", "words")),
        *((name, "how the kernels' own symbols begin") for name in ("uf", "uf_net", "qmath_net")),
        *((name, "how other networks' files end") for name in ("net_weights", "net_golden")),
    ],
)
def test_a_name_that_cannot_work_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    advice = rf"found '{name}', which is {reason}.*; pass name='(\w+_net)'"
    with pytest.raises(ExportError, match=advice):
        small_net().export(tmp_path, name=name)
    with pytest.raises(ExportError, match=advice) as refused:  # also where it is the folder's own
        small_net().export(f"{tmp_path}/{name}/")
    assert not list(tmp_path.iterdir())
    require_name(str(refused.value).split("'")[-2])  # and what it says to try is one


@pytest.mark.parametrize("name", ["NULL", "EOF", "linux", "class", "new", "INT8_MAX"])
def test_a_word_of_c_or_cpp_is_no_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"found '{name}'; try '_{name}'"):
        small_net().export(tmp_path, name=name)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("Net", "letters' case alone, found 'Net' beside 'net'"),
        ("net_input", "found 'net_input' beside 'net': neither may"),
        ("net_output_small", "found 'net_output_small' beside 'net': neither may"),
    ],
)
def test_networks_of_one_folder_differ_by_more(name: str, refused: str, tmp_path: Path) -> None:
    small_net().export(tmp_path, name="net")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportError, match=refused):
        small_net().export(tmp_path, name=name)
    assert sorted(tmp_path.iterdir()) == before


def test_names_that_the_check_itself_uses(tmp_path: Path) -> None:
    """`main.c` names nothing as a network of the folder is named."""
    for name in ("alignment", "arena", "check", "failures", "net_inputs", "net"):
        small_net().export(tmp_path, name=name)
    check_syntax("gcc", tmp_path / "main.c", tmp_path)


WORDS = re.findall(
    r"\w+",
    """class new bool true false template this export and xor wchar_t NULL EOF linux unix INT8_MAX UINT64_C SIZE_MAX
    INT_MAX errno assert stdin offsetof int8_t size_t I NAN M_PI data uf_node""",
)


def test_ports_named_as_words_of_c_and_cpp(tmp_path: Path) -> None:
    net = small_net()
    outputs = tuple(replace(net.outputs[0], name=name) for name in WORDS)
    inputs = (replace(net.inputs[0], name="operator"),)
    named = replace(net, inputs=inputs, outputs=outputs, structure=("tuple", len(outputs)))
    named.export(tmp_path, name="net")
    passes(tmp_path, HOST, tmp_path)
    headers = re.findall(
        r"\w+", "assert complex ctype errno limits math setjmp signal stdbool stdint stdio stdlib string"
    )
    text = "".join(f"#include <{header}.h>\n" for header in headers) + '#include "net.h"\n'
    for compiler, flags, suffix in (("gcc", "-std=gnu11", "c"), ("g++", "-std=gnu++17", "cc")):
        source = tmp_path / f"firmware.{suffix}"
        source.write_text(text)
        check_syntax(compiler, source, tmp_path, flags)


def test_a_program_without_layers_is_refused(tmp_path: Path) -> None:
    net = small_net()
    x = net.inputs[0]
    empty = replace(net, outputs=(replace(x, name="y"),), instructions=(), tensors={"x": net.tensors["x"]})
    with pytest.raises(ExportError, match="required a Program of one layer at least, found none"):
        empty.export(tmp_path, name="net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"samples": n}, f"samples: required an integer, at least 1, found {n}") for n in (0, -1, 1.5, True, None)),
        ({"samples": "2"}, "samples: required an integer, at least 1, found '2'"),
        *(({"name": name}, "name: required a string, found") for name in (5, b"net", ["net"])),
        ({"name": "n" * 101}, "required at most 100 letters, found 101"),
        ({"name": ""}, "found ''; try 'value'"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        small_net().export(tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a\0b", "n" * 256, "\udfff"])
def test_paths_that_no_folder_can_have_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"required the path of a folder, found .*; choose another"):
        small_net().export(f"{tmp_path}/{name}/", name="net")


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        small_net().export(tmp_path / name, to="c", name="net")
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*.*")} for f in (tmp_path / "a", tmp_path / "b")]
    assert files[0] == files[1]


def test_text() -> None:
    assert identifier("conv1/weight:0") == "conv1_weight_0"
    assert identifier("int") == "_int"
    assert identifier("é") == "value"
    assert list(identifiers(["a.b", "a_b", "A_b"]).values()) == ["a_b", "a_b_2", "A_b_3"]
    assert initialiser({"a": [1, -2], "b": {"c": "d"}}) == "{.a = {1, -2}, .b = {.c = d}}"
    assert array("x", np.array([[1], [-2]], np.int8)) == "const int8_t x[2] = {\n    1, -2,\n};\n"
    assert comment("a\n*/ b\\") == "// a?*/ b"
    assert merged("# b\n\nold\n", "# a\n\nnew\n") == "# a\n\nnew\n\n# b\n\nold\n"
    assert merged("# a\n\nold\n", "# a\n\nnew\n") == "# a\n\nnew\n"


# Public networks ------------------------------------------------------------------------------------------------------

PUBLIC = ("pretrainedResnet_quant", "vww_96_int8", "micro_speech_quantized", "person_detect")


@pytest.mark.data
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("network", PUBLIC)
@pytest.mark.parametrize("target", CROSS)
def test_public_networks(network: str, target: Target, data_folder: Path, tmp_path: Path) -> None:
    unfloat.load(data_folder / f"tflite/{network}.tflite").export(tmp_path, name="net")
    passes(tmp_path, target, tmp_path)


@pytest.mark.data
@pytest.mark.cross
def test_two_networks_in_one_image(data_folder: Path, tmp_path: Path) -> None:
    files = [str(data_folder / f"tflite/{network}.tflite") for network in ("micro_speech_quantized", "person_detect")]
    script = Path(__file__).parents[2] / "examples/microcontroller/build.py"
    command = [sys.executable, str(script), *files, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("micro_speech_quantized: PASS (0)\nperson_detect: PASS (0)\nPASS\n")


def test_the_page_about_it_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs/microcontrollers.md").read_text()
    python, c = (
        re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for language in ("python", "c")
    )
    assert python and c
    exec(python[1], {})
    folder = tmp_path / "firmware"
    (folder / "look.c").write_text(c[1])
    passes(folder, HOST, tmp_path)


# How small, how fast --------------------------------------------------------------------------------------------------

HEAD = """
import sys
from tflite_micro.python.tflite_micro import runtime

config = runtime.InterpreterConfig.kAllocationRecording
model = open(sys.argv[1], "rb").read()
runtime.Interpreter.from_bytes(model, arena_size=1 << 22, intrepreter_config=config).print_allocations()
"""


def macro(folder: Path, name: str) -> int:
    found = re.search(rf"#define NET_{name} (\d+)", (folder / "net.h").read_text())
    assert found
    return int(found[1])


@pytest.mark.data
@pytest.mark.cross
@pytest.mark.parametrize("network", ["pretrainedResnet_quant", "vww_96_int8", "person_detect"])
def test_no_more_memory_than_tflite_micro(network: str, data_folder: Path, tmp_path: Path) -> None:
    """RAM: no more than the head of the interpreter's arena. Flash: no more than the file alone."""
    pytest.importorskip("tflite_micro")
    path = data_folder / f"tflite/{network}.tflite"
    unfloat.load(path).export(tmp_path, name="net")
    done = subprocess.run([sys.executable, "-c", HEAD, str(path)], capture_output=True, text=True)
    head = re.search(r"allocation head (\d+) bytes", done.stdout + done.stderr)
    assert head, done.stderr
    assert macro(tmp_path, "ARENA_BYTES") <= int(head[1])
    code = code_bytes("net", tmp_path)
    assert code is not None
    assert macro(tmp_path, "WEIGHT_BYTES") + code <= path.stat().st_size


@pytest.mark.data
@pytest.mark.cross
@pytest.mark.parametrize(("target", "times"), [(CORTEX_M7, 5), (CORTEX_M55, 7)], ids=lambda x: getattr(x, "name", ""))
def test_fewer_instructions_than_plain_c(target: Target, times: float, data_folder: Path, tmp_path: Path) -> None:
    """ResNet-8, counted by the emulator; UF_PLAIN_C is what bisects a doubt."""
    unfloat.load(data_folder / "tflite/pretrainedResnet_quant.tflite").export(tmp_path, name="net")
    counted = [instructions(tmp_path, target, *flags) for flags in ((), ("-DUF_PLAIN_C",))]
    assert counted[1] >= times * counted[0], counted


@pytest.mark.cross
@pytest.mark.parametrize(("channels", "limit"), [(32, 2.0), (64, 1.6)])
def test_instructions_of_a_product(channels: int, limit: float, tmp_path: Path) -> None:
    """Pointwise layers with the DSP extension, rescaling and the check of outputs included."""
    pointwise(channels, (16, 16), 3).export(tmp_path, name="net")
    assert instructions(tmp_path, CORTEX_M7) <= limit * 3 * 16 * 16 * channels**2
