"""Say where the tests of this folder compute: on CUDA, or on a CPU, which shows that the tests themselves are right."""

import os
from collections.abc import Iterator
from functools import partial

import pytest
import torch

import tests.conftest  # noqa: F401 - its settings hold here, too
from nemotron_runtime.device import round_as_typed
from nemotron_runtime.executor import open_executor
from tests.builders.company import Opener


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", help="where to compute, as torch says it; a device that is not there is a failure")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--device", None)
    if torch.cuda.is_available() and not (name or "").startswith("cpu"):
        os.environ["TRITON_INTERPRET"] = "0"
    if name and name.startswith("cuda") and not torch.cuda.is_available():
        pytest.exit("torch finds no CUDA device here: see nvidia-smi, or use --device cpu", returncode=1)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    name = request.config.getoption("--device", None) or "cuda"
    if not name.startswith("cuda") or torch.cuda.is_available():
        return str(name)
    pytest.skip("needs a CUDA device: run `make gpu` where there is one")


@pytest.fixture(scope="session")
def opener(device: str) -> Opener:
    return partial(open_executor, device=device, kernels="torch")


@pytest.fixture(scope="module")
def tensors_there(device: str) -> Iterator[None]:
    """Tensors are made on the device unless a test says otherwise, and torch's own convolution is no TF32 one."""
    round_as_typed()
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.set_default_device(device)
    yield
    torch.set_default_device(None)
