"""A row pays for what it asks for, counted in torch operations."""

from typing import Any

import pytest
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nemotron_runtime.filters import NARROW
from nemotron_runtime.sampler import Choice, choose
from tests.builders.choices import VOCABULARY, a_choice, some_logits

pytestmark = pytest.mark.unit

FREE = {"__get__", "tolist", "view"}
"""What computes nothing."""


class Calls(TorchFunctionMode):
    """Keeps the name of each torch call, and the elements of its first argument."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        size = args[0].numel() if args and isinstance(args[0], Tensor) and func is not Tensor.numel else 0
        self.seen.append((func.__name__, size))
        return func(*args, **(kwargs or {}))


def calls(*choices: Choice, vocabulary: int = VOCABULARY) -> list[tuple[str, int]]:
    logits = some_logits(len(choices), vocabulary=vocabulary)
    mode = Calls()
    with mode:
        choose(logits, choices)
    return [(name, size) for name, size in mode.seen if name not in FREE]


def test_greedy_rows_pay_for_an_argmax_alone() -> None:
    assert [name for name, _ in calls(*[a_choice()] * 8)] == ["argmax"]


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"temperature": 1.0}, id="plain"),
        pytest.param({"temperature": 1.0, "top_p": 0.9}, id="filtered"),
        pytest.param({"repetition_penalty": 1.5}, id="penalised"),
    ],
)
def test_a_step_takes_no_more_operations_for_more_rows(params: dict[str, Any]) -> None:
    one, many = calls(a_choice(**params)), calls(*[a_choice(**params)] * 8)

    assert [name for name, _ in many] == [name for name, _ in one]


def test_plain_rows_pay_for_no_filter_and_no_penalty() -> None:
    names = " ".join(name for name, _ in calls(*[a_choice(temperature=1.0)] * 8))

    assert not any(word in names for word in ("sort", "topk", "softmax", "cumsum", "clone", "setitem"))


def test_a_filtered_row_draws_noise_for_the_likeliest_tokens_only() -> None:
    seen = calls(a_choice(temperature=1.0, top_p=0.5), vocabulary=8 * NARROW)

    # exclusive or is an operation of the noise alone
    assert {size for name, size in seen if "xor" in name} == {NARROW}
