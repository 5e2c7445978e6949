"""Two networks in one firmware for a Cortex-M4 without floating point: kernels and arena are shared.

    python examples/microcontroller/build.py micro_speech_quantized.tflite person_detect.tflite --output firmware

writes the networks, their golden inputs and outputs and `firmware.elf`, and runs it if QEMU's board `mps2-an386` is
there: one PASS a network, and one for all. It needs arm-none-eabi-gcc; startup.c and cortex_m.ld are beside this file.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import unfloat

HERE = Path(__file__).parent
CORE = ("-mcpu=cortex-m4+nofp", "-mthumb", "-mfloat-abi=soft")
CODE = ("-std=c99", "-Os", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections")
LINK = ("--specs=rdimon.specs", "-nostartfiles", "-Wl,--gc-sections", f"-Wl,-T,{HERE / 'cortex_m.ld'}")
MEMORY = {"FLASH": 0, "FLASH_SIZE": 4 << 20, "RAM": 0x20000000, "RAM_SIZE": 4 << 20}
BOARD = "qemu-system-arm -M mps2-an386 -nographic -monitor none -semihosting-config enable=on,target=native -kernel"


def build(networks: list[Path], folder: Path) -> Path:
    """Export each network into the folder, compile all of it, and return the firmware's path."""
    for network in networks:
        unfloat.load(network).export(folder, to="c", name=network.stem)
    sources = [*sorted(folder.glob("*.c")), *sorted(folder.glob("kernels/*/*.c")), HERE / "startup.c"]
    places = [f"-Wl,--defsym={name}={value:#x}" for name, value in MEMORY.items()]
    firmware = folder / "firmware.elf"
    command = ["arm-none-eabi-gcc", *CORE, *CODE, f"-I{folder}", f"-I{folder / 'kernels'}", *map(str, sources)]
    subprocess.run([*command, *LINK, *places, "-o", str(firmware)], check=True)
    return firmware


def main() -> None:
    """Build, and run where there is an emulator."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", type=Path, nargs="+", help="what unfloat.load reads; the file's name is the prefix")
    parser.add_argument("--output", type=Path, default=Path("firmware"), help="the folder to write")
    arguments = parser.parse_args()
    firmware = build(arguments.networks, arguments.output)
    print(f"wrote {firmware}", flush=True)
    subprocess.run(["arm-none-eabi-size", str(firmware)], check=True)
    if shutil.which("qemu-system-arm"):
        subprocess.run([*BOARD.split(), str(firmware)], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
