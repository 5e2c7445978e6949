"""No kernel of the engine computes with floats, and a float in one would be found."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from benchmarks.kernels import no_float
from benchmarks.kernels.no_float import ARM64, X86_64, faults, objects

from unfloat.formats.c.objects import PREFIX, Architecture

ROOT = Path(__file__).parents[2]
FLAGS = ("-O3", "-fPIC", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc/kernels'}")
MACHINES = [
    pytest.param("gcc", X86_64, id="x86-64"),
    pytest.param("aarch64-linux-gnu-gcc", ARM64, id="arm64", marks=pytest.mark.cross),
]
HALVED = "int32_t halved(int32_t x); int32_t halved(int32_t x) { return (int32_t)((float)x * 0.5f); }\n"
SHARED = "int64_t rounded(double x); int64_t rounded(double x) { return __builtin_lrint(x); }\n"


def test_no_kernel_computes_with_floats() -> None:
    here = no_float.own_build() or no_float.built(ROOT / "build/no_float/x86_64", arm=False)
    found = objects(here, X86_64)
    assert faults(found) == []
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc/kernels").glob("*/scalar*.c")}
    assert sources <= set(found)
    assert any(name.endswith("avx512vnni.c") for name in found)


def compiled(source: str, text: str, compiler: str, build: Path) -> None:
    """As CMake would have it in its folder."""
    path = build / "sources" / source
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    target = build / f"CMakeFiles/unfloat_kernels.dir/{source}.o"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = ROOT / Path(source).parent  # headers of the kernel's own
    subprocess.run([compiler, *FLAGS, f"-I{beside}", "-c", str(path), "-o", str(target)], check=True)


@pytest.mark.parametrize(("compiler", "architecture"), MACHINES)
def test_a_float_in_a_kernel_is_found(compiler: str, architecture: Architecture, tmp_path: Path) -> None:
    kernel = (ROOT / "csrc/kernels/reshape/scalar.c").read_text()
    for source, text in (("csrc/kernels/reshape/scalar.c", kernel), ("csrc/engine/rows.c", HALVED)):
        compiled(source, "#include <stdint.h>\n" + text, compiler, tmp_path)
    border = "csrc/engine/training.c: required floats, as it is excepted, found none"
    assert faults(objects(tmp_path, architecture)) == [border]
    compiled("csrc/kernels/reshape/scalar.c", kernel + HALVED, compiler, tmp_path)
    compiled("csrc/kernels/more/scalar.c", "#include <stdint.h>\n" + SHARED, compiler, tmp_path)
    found = faults(objects(tmp_path, architecture))
    assert any(fault.startswith("csrc/kernels/reshape/scalar.c: halved has the instruction ") for fault in found)
    assert any(fault.startswith("csrc/kernels/more/scalar.c: ") for fault in found)


def test_nothing_to_look_at_is_a_fault(tmp_path: Path) -> None:
    assert "no object of csrc/kernels/" in faults(objects(tmp_path, X86_64))


COMPUTES = {
    X86_64: "addps vaddss vfmadd231ps cvttss2si vcvtdq2ps ucomiss vcomisd flds fstpl fildl fsqrt sqrtsd vdivpd cmpltps"
    " tdpbf16ps vmaxps minss roundps vrndscaleps vdpbf16ps vaddph haddps vrcp14ps rsqrtps dpps vcvtsi2sd",
    ARM64: "fadd fmul fmla fcvtzs fcmp frinta scvtf ucvtf fmadd bfdot bfcvt fdiv fcsel",
}
CARRIES = {
    X86_64: "movss movsd movaps vmovups movsldup movhlps shufps vshufps unpcklps blendvps vinsertps vextractps vpermps"
    " vandps vxorpd vpabsd vpackssdw vpdpbusds vpdpbssd vpmaddwd pause push popcnt clflush mfence movsb movsbl cmpsb"
    " tdpbusd tdpbssd tileloadd imul sets vbroadcastss vinsertf128 vmaskmovps vgatherdps {vex}~vpdpbusd rep~stos fs~mov",
    ARM64: "fmov ldr stp sdot bfi bfxil usmmla b.ls smull sqxtn",
}


@pytest.mark.parametrize("architecture", [X86_64, ARM64], ids=["x86-64", "arm64"])
def test_mnemonics(architecture: Architecture) -> None:
    def computes(word: str) -> bool:
        text = f"{word.replace('~', ' ')} operands"
        prefix = PREFIX.match(text)
        assert prefix
        return architecture.floats.match(text, prefix.end()) is not None

    assert [word for word in COMPUTES[architecture].split() if not computes(word)] == []
    assert [word for word in CARRIES[architecture].split() if computes(word)] == []
