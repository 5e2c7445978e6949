"""Compile an exported folder and run it: on this machine, on Arm64, and on four bare Cortex-M, under an emulator."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[2] / "examples/microcontroller"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffunction-sections", "-fdata-sections")


@dataclass(frozen=True)
class Target:
    """Where an export runs.

    Attributes:
        name: For the test's id.
        compiler: The compiler's command.
        flags: Of the target.
        emulator: The command before the program's path; empty where the machine runs it itself.
        support: Flags and files of the final program alone, not of the export's objects.
    """

    name: str
    compiler: str
    flags: tuple[str, ...] = ()
    emulator: tuple[str, ...] = ()
    support: tuple[str, ...] = ()

    @property
    def bare(self) -> bool:
        """Whether there is no operating system."""
        return self.compiler.startswith("arm-none-eabi")


@dataclass(frozen=True)
class _Memory:
    flash: tuple[int, int] = (0, 4 << 20)
    ram: tuple[int, int] = (0x20000000, 4 << 20)

    def flags(self) -> tuple[str, ...]:
        places = {"FLASH": self.flash[0], "FLASH_SIZE": self.flash[1], "RAM": self.ram[0], "RAM_SIZE": self.ram[1]}
        return tuple(f"-Wl,--defsym={name}={value:#x}" for name, value in places.items())


def _cortex_m(name: str, cpu: str, machine: str, memory: _Memory = _Memory(), abi: str = "soft") -> Target:
    emulator = f"qemu-system-arm -M {machine} -nographic -monitor none -semihosting-config enable=on,target=native"
    link = ("--specs=rdimon.specs", "-nostartfiles", f"-Wl,-T,{HERE / 'cortex_m.ld'}", *memory.flags())
    support = ("-Wno-pedantic", str(HERE / "startup.c"), *link)
    flags = (f"-mcpu={cpu}", "-mthumb", f"-mfloat-abi={abi}")
    return Target(name, "arm-none-eabi-gcc", flags, (*emulator.split(), "-kernel"), support)


HOST = Target("host", "gcc")
ARM64 = Target("arm64", "aarch64-linux-gnu-gcc", ("-static",), ("qemu-aarch64-static",))
_AN547 = _Memory((0x10000000, 512 << 10), (0x31000000, 4 << 20))
# No floating-point unit. The first runs plain C, the next two the DSP extension, the last Helium.
CORTEX_M3 = _cortex_m("cortex-m3", "cortex-m3", "mps2-an385")
CORTEX_M4 = _cortex_m("cortex-m4", "cortex-m4+nofp", "mps2-an386")
CORTEX_M7 = _cortex_m("cortex-m7", "cortex-m7+nofp", "mps2-an500")
CORTEX_M55 = _cortex_m("cortex-m55", "cortex-m55+nofp", "mps3-an547", _AN547, "hard")  # Helium, of integers only
TARGETS = (HOST, ARM64, CORTEX_M3, CORTEX_M4, CORTEX_M7, CORTEX_M55)


@dataclass(frozen=True)
class Outcome:
    """What a program printed, and what it returned."""

    text: str
    status: int


def build(folder: Path, target: Target, output: Path, optimize: str = "-O2", sources: Sequence[Path] = ()) -> None:
    """Compile every file of an export, as strictly as can be, into one program."""
    files = [*(sources or sorted(folder.glob("*.c"))), *sorted(folder.glob("kernels/*/*.c"))]
    command = [target.compiler, *STRICT, optimize, *target.flags, f"-I{folder}", f"-I{folder / 'kernels'}"]
    command += [*map(str, files), *target.support, "-Wl,--gc-sections", "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(program: Path, target: Target, emulator_flags: Sequence[str] = (), seconds: int = 600) -> Outcome:
    """Run a program on its target, for so long at most."""
    *emulator, last = target.emulator or ("",)
    command = [*emulator, *emulator_flags, last, str(program)] if last else [str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    return Outcome(done.stdout + done.stderr, done.returncode)


def build_and_run(folder: Path, target: Target, scratch: Path, optimize: str = "-O2") -> Outcome:
    """Both."""
    program = scratch / f"golden-{target.name}"
    build(folder, target, program, optimize)
    return run(program, target)
