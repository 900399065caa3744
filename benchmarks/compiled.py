"""Compile every kernel at real sizes for a GPU that need not be here, and tell what its programs take of it."""

import json
import sys
from dataclasses import asdict

import torch

from benchmarks.launches import SIZES, makers
from nemotron_kernels.ahead import compile_ahead

CAPABILITIES = (80, 89, 90, 100, 120)
"""A100, L40S and RTX 40, H100 and H200, B200, RTX 50."""
SEQUENCES = 2


def compiled(capability: int, model: str, only: str = "") -> dict[str, dict[str, int]]:
    """By case and kernel: registers, bytes spilled, bytes of shared memory; of cases in whose name `only` is found."""
    found = {}
    for case, make in ((case, make) for case, make in makers(SIZES[model]).items() if only in case):
        with torch.device("meta"):
            launches = make(SIZES[model], SEQUENCES).launches
        for launch in launches:
            found[f"{case}: {launch.kernel.__name__}"] = asdict(compile_ahead(launch, capability))
    return found


def main() -> None:
    """Arguments: a model, or all without any, and what the names of its cases have to contain."""
    only = "".join(sys.argv[2:])
    for model in sys.argv[1:2] or SIZES:
        for capability in CAPABILITIES:
            found = {"model": model, "capability": capability, "kernels": compiled(capability, model, only)}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
