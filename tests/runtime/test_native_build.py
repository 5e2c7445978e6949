"""The native tests of `tests/native`, built with sanitizers and run: no bad memory access, no undefined behaviour."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = (
    *("-DUNFLOAT_PYTHON=OFF", "-DUNFLOAT_TESTS=ON", "-DUNFLOAT_SANITIZE=address,undefined"),
    "-DCMAKE_BUILD_TYPE=None",
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
    run(tool("cmake"), "-S", str(ROOT), "-B", build, *OPTIONS)
    run(tool("cmake"), "--build", build, "--parallel", "2")
    report = run(tool("ctest"), "--test-dir", build, "--output-on-failure", "--no-tests=error")
    for source in (ROOT / "tests/native").glob("*_test.c*"):
        if "_avx512_" not in source.name:
            assert source.stem in report
