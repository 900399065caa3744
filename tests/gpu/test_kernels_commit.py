"""Moving anchors on with the fused kernel on the device: the very tests that hold on the CPU."""

import pytest

from tests.contract.test_kernels_commit import *  # noqa: F403

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("tensors_there")]  # type: ignore[assignment]
