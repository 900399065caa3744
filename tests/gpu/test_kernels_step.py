"""The fused step of a Mamba-2 block on the device: the very tests that hold on the CPU."""

import pytest

from tests.contract.test_kernels_step import *  # noqa: F403

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("tensors_there")]  # type: ignore[assignment]
