"""The rescalings and clamps of Arm's extensions, qmath_dsp.h and qmath_mve.h, against qmath.h's: 0 results differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.formats.c_targets import CORTEX_M4, CORTEX_M7, CORTEX_M55, Target, build, run

INCLUDE = Path(__file__).parents[2] / "csrc/include"
SOURCE = Path(__file__).with_name("rescaling.c")


@pytest.mark.cross
@pytest.mark.parametrize("optimize", ["-O0", "-O2"])
@pytest.mark.parametrize("target", [CORTEX_M4, CORTEX_M7, CORTEX_M55], ids=lambda t: t.name)
def test_rescaling_is_that_of_plain_c(target: Target, optimize: str, tmp_path: Path) -> None:
    program = tmp_path / "rescaling"
    including = replace(target, flags=(*target.flags, f"-I{INCLUDE}"))
    build(tmp_path, including, program, optimize, sources=[SOURCE])
    outcome = run(program, target)
    assert outcome.status == 0, outcome.text
    assert outcome.text == "0 of 257106\n"
