"""Load the library that was compiled when this package was built."""

import ctypes
from functools import cache
from pathlib import Path

from nemotron_kernels.native.interface import FUNCTIONS, ISAS, STRUCTS, VERSION

LIBRARY = Path(__file__).with_name("libnemotron_cpu.so")


class NativeMissing(OSError):
    """There is no library, or none that runs here; the message says what is missing."""


@cache
def load(path: Path = LIBRARY) -> ctypes.CDLL:
    """The library, its functions typed. Raises NativeMissing."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeMissing(f"the library of CPU kernels cannot be loaded ({error}): run make python") from error
    for name, (returned, *taken) in FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise NativeMissing(f"{path.name} has no {name}: it is of another version, run make python")
        function.restype, function.argtypes = returned, taken
    sizes = [library.nk_sizeof(which) for which in range(len(STRUCTS))]
    if library.nk_version() != VERSION or sizes != [ctypes.sizeof(each) for each in STRUCTS]:
        raise NativeMissing(f"{path.name} is of another version: run make python")
    return library


def best_isa() -> int:
    """The best set of instructions that both this processor and the library have. Raises NativeMissing."""
    found = int(load().nk_isa())
    if found not in ISAS:
        raise NativeMissing("this processor lacks AVX2, FMA or F16C, which the CPU kernels need")
    return found


def why_missing() -> str | None:
    """What stands in the way of computing natively here, if anything does."""
    try:
        best_isa()
    except NativeMissing as error:
        return str(error)
    return None
