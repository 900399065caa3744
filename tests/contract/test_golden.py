"""What is kept of transformers for machines without it is what transformers computes."""

import pytest

from tests.builders.golden import computed, goldens
from tests.builders.numbers import error

pytestmark = pytest.mark.contract


def test_the_kept_logits_are_those_of_transformers() -> None:
    for kept, now in zip(goldens(), computed(), strict=True):
        assert kept.answer == now.answer
        assert error(kept.logits, now.logits) < 1e-5
