"""Kernels at the sizes of real models are compiled by the Triton that is there."""

import pytest

from tests.contract.test_kernels_compiled import *  # noqa: F403

pytestmark = pytest.mark.gpu
