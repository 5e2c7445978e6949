"""The native tests of `tests/native`: built with sanitizers, with all levels of x86, and for Arm in an emulator."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.bits import replay
from benchmarks.kernels import no_float
from benchmarks.networks import NETWORKS

import unfloat

ROOT = Path(__file__).parents[2]
QUICK = (
    *("-DUNFLOAT_PYTHON=OFF", "-DUNFLOAT_TESTS=ON", "-DCMAKE_BUILD_TYPE=None"),
    *("-DCMAKE_C_FLAGS=-O1", "-DCMAKE_CXX_FLAGS=-O1"),  # most of the time goes into compiling
)


def tool(name: str) -> str:
    """`cmake` or `ctest`: the one on the PATH, or that of the package `cmake`."""
    if found := shutil.which(name):
        return found
    package = importlib.util.find_spec("cmake")
    folders = [Path(sys.executable).parent]
    folders += [Path(where) / "data/bin" for where in (package.submodule_search_locations or [])] if package else []
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        pytest.fail(f"{name} not found: the native tests need it; try `pip install cmake`")
    return found


def require_compilers() -> None:
    """As CMake looks for them: $CC and $CXX, else the usual names."""
    for language, variable, usual in (("C", "CC", ("cc", "gcc", "clang")), ("C++", "CXX", ("c++", "g++", "clang++"))):
        named = os.environ.get(variable, "").split()[:1]
        if not any(map(shutil.which, named or usual)):
            pytest.fail(f"no {language} compiler found: looked for {', '.join(named or usual)}; set {variable}")


def run(*command: str) -> str:
    found = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    if found.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{found.stdout[-6000:]}", pytrace=False)
    return found.stdout


def test_native_tests_pass_under_sanitizers(tmp_path: Path) -> None:
    require_compilers()
    build = str(tmp_path / "build")
    run(tool("cmake"), "-S", str(ROOT), "-B", build, *QUICK, "-DUNFLOAT_SANITIZE=address,undefined")
    run(tool("cmake"), "--build", build, "--parallel", "2")
    report = run(tool("ctest"), "--test-dir", build, "--output-on-failure", "--no-tests=error")
    for source in (ROOT / "tests/native").glob("*_test.c*"):
        if not re.search("_(avx2|avx512|neon)_", source.name):
            assert source.stem in report


ALL_X86 = "amx avx512vnni avx512vl avxvnni avx2 scalar"


@pytest.fixture(scope="module")
def x86(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the native tests for x86, what the CPU may lack put in place lane by lane."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("levels of x86 are emulated on x86")
    build = tmp_path_factory.mktemp("x86")
    run(tool("cmake"), "-S", str(ROOT), "-B", str(build), *QUICK, "-DUNFLOAT_EMULATED=ON")
    run(tool("cmake"), "--build", str(build), "--parallel", "2", "--target", "kernels_test", "qmath_avx512_test")
    return build


def test_kernels_of_all_x86_levels_give_the_same_bits(x86: Path) -> None:
    """Those that this CPU cannot run included: AVX-512, AVX-VNNI and AMX."""
    assert f"levels {ALL_X86}: " in run(str(x86 / "kernels_test"), "1")
    assert run(str(x86 / "qmath_avx512_test")).count("; 0 wrong bytes") == 2  # the forms for CPUs with IFMA and without


def test_kernels_of_a_cpu_with_vnni_but_without_ifma(x86: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNFLOAT_EMULATED_WITHOUT_IFMA", "1")
    assert f"levels {ALL_X86} without IFMA: " in run(str(x86 / "kernels_test"), "1")


def test_networks_give_the_interpreters_bits_at_all_x86_levels(x86: Path, tmp_path: Path) -> None:
    write_resnet8(tmp_path / "resnet8.replay")
    report = run(str(replay.link(x86)), str(tmp_path / "resnet8.replay"), "1", "3").splitlines()
    assert report == [f"{level} {2 * 3 * 10} 0" for level in ALL_X86.split()]


def write_resnet8(path: Path) -> None:
    """ResNet-8, with its residual additions, and what the interpreter computes."""
    network = NETWORKS["resnet8"]
    samples = torch.randn(4, *network.input_shape, generator=torch.Generator().manual_seed(0))
    replay.write(unfloat.quantize(network.random(seed=1), [samples]), (1, 2), path)


ROUNDS = "6"  # of random cases, half of those on this machine: the emulator takes its time
CORES = {
    "cortex-a53": "neon scalar",
    "cortex-a76": "dotprod neon scalar",
    "max": "i8mm dotprod neon scalar",
}


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the native tests for 64-bit Arm."""
    build = tmp_path_factory.mktemp("arm")
    compilers = [
        f"-DCMAKE_{language}_COMPILER=aarch64-linux-gnu-{name}" for language, name in (("C", "gcc"), ("CXX", "g++"))
    ]
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_EXE_LINKER_FLAGS=-static"]
    options = ["-DUNFLOAT_PYTHON=OFF", "-DUNFLOAT_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release"]
    run(tool("cmake"), "-S", str(ROOT), "-B", str(build), *options, *target, *compilers)
    run(tool("cmake"), "--build", str(build), "--parallel", "2")
    return build


@pytest.mark.cross
@pytest.mark.parametrize("core", CORES)
def test_arm_kernels_give_the_same_bits(arm: Path, core: str) -> None:
    """A core without dot products, one with, one with products of mixed signs; scalar code says what is true."""
    report = run("qemu-aarch64-static", "-cpu", core, str(arm / "kernels_test"), ROUNDS)
    assert f"levels {CORES[core]}: " in report


@pytest.mark.cross
def test_no_arm_kernel_computes_with_floats(arm: Path) -> None:
    found = no_float.objects(arm, no_float.ARM64)
    assert no_float.faults(found) == []
    assert any(name.endswith("i8mm.c") for name in found)


@pytest.mark.cross
def test_arm_networks_give_the_interpreters_bits(arm: Path, tmp_path: Path) -> None:
    write_resnet8(tmp_path / "resnet8.replay")
    command = ("qemu-aarch64-static", "-cpu", "max", str(replay.link(arm, arm=True)))
    report = run(*command, str(tmp_path / "resnet8.replay"), "1", "3").splitlines()
    assert report == [f"{level} {2 * 3 * 10} 0" for level in CORES["max"].split()]


@pytest.mark.cross
@pytest.mark.parametrize("name", ["qmath_test", "qmath_neon_test", "engine_test"])
def test_arm_natively(arm: Path, name: str) -> None:
    report = run("qemu-aarch64-static", "-cpu", "max", str(arm / name))
    assert re.search(r"\b0 (failures|wrong bytes)", report)
