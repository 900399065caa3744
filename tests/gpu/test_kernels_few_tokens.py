"""Attention, router and experts of a few tokens on the device: the very tests that hold on the CPU."""

import pytest

from tests.contract.test_kernels_few_tokens import *  # noqa: F403

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("tensors_there")]  # type: ignore[assignment]
