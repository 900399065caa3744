#!/usr/bin/env python3
"""Compile the library of CPU kernels: `build.py OUT.so`, with g++ or what CXX names, and the standard library alone."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    # A multiplication and an addition are one instruction where the source says so, and nowhere else.
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    # GCC 12 takes its own _mm512_undefined for a mistake.
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
)
# Nothing but the C library is needed where it runs.
LINK = ("-shared", "-static-libgcc", "-static-libstdc++", "-lm", "-lpthread")

AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq")
VARIANTS = {"avx2": AVX2, "avx512": AVX512, "avx512_bf16": (*AVX512, "-mavx512bf16")}
"""What each set of instructions is compiled with; which one runs is decided on the processor it runs on."""


def sources() -> list[Path]:
    """Everything the library is made of, this file among it."""
    return sorted([*HERE.glob("*.cpp"), *HERE.glob("*.h"), Path(__file__).resolve()])


def commands(compiler: str, objects: Path) -> dict[Path, list[str]]:
    """What makes each object file."""
    plain = {objects / f"{name}.o": [compiler, *FLAGS, str(HERE / f"{name}.cpp")] for name in ("library", "team")}
    variants = {
        objects / f"{name}.o": [compiler, *FLAGS, *flags, f"-DNK_ISA=nk_{name}", str(HERE / "variant.cpp")]
        for name, flags in VARIANTS.items()
    }
    return variants | plain


def build(out: Path) -> None:
    """Write the library, all at once, so that no process maps half of one.

    Writes nothing where the processor is of another kind. Raises SystemExit with what the compiler said.
    """
    if platform.machine() != "x86_64":
        print(f"no CPU kernels for {platform.machine()}: they are written for x86_64", file=sys.stderr)
        return
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        sys.exit("g++ is missing, which compiles the CPU kernels: install it (Debian: apt-get install g++), or set CXX")
    with tempfile.TemporaryDirectory() as folder:
        made = commands(compiler, Path(folder))
        running = [subprocess.Popen([*command, "-c", "-o", str(path)]) for path, command in made.items()]
        codes = [process.wait() for process in running]
        if any(codes):
            sys.exit("the CPU kernels do not compile: see above")
        library = out.with_name(f".{out.name}.{os.getpid()}")
        subprocess.run([compiler, *map(str, made), *LINK, "-o", str(library)], check=True)
        library.replace(out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build.py OUT.so")
    build(Path(sys.argv[1]))
