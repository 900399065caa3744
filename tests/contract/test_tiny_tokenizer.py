"""The demo's tokenizer turns any text into bytes and back, and renders conversations as the family does."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer

pytestmark = pytest.mark.contract

CHECKPOINT = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
FAST = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
AUTO = AutoTokenizer.from_pretrained(CHECKPOINT)
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]

any_text = st.text()  # Unicode without surrogates: exactly what UTF-8 can say
pieces = st.lists(st.one_of(any_text, st.sampled_from(SPECIAL))).map("".join)


@given(pieces)
def test_any_text_survives_the_round_trip(text: str) -> None:
    assert FAST.decode(FAST.encode(text).ids, skip_special_tokens=False) == text
    assert AUTO.decode(AUTO.encode(text)) == text


@given(pieces)
def test_both_loaders_agree(text: str) -> None:
    assert FAST.encode(text).ids == AUTO.encode(text)


@given(any_text.filter(lambda text: "<" not in text))
def test_plain_text_is_one_token_per_byte(text: str) -> None:
    assert FAST.encode(text).ids == [16 + byte for byte in text.encode()]


def test_special_tokens_have_the_familys_ids() -> None:
    assert [FAST.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 10, 11, 12, 13]
    assert FAST.get_vocab_size() == 272


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str, **more: str) -> dict[str, str]:
    return {"role": "assistant", "content": content, **more}


NO_SYSTEM = "<|im_start|>system\n<|im_end|>\n"
HI = "<|im_start|>user\nHi<|im_end|>\n"
ASKED = NO_SYSTEM + HI + "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("turns", "options", "rendered"),
    [
        pytest.param([user("Hi")], {}, ASKED + "<think>\n", id="thinking-is-the-default"),
        pytest.param([user("Hi")], {"enable_thinking": False}, ASKED + "<think></think>", id="no-thinking"),
        pytest.param([user("Hi")], {"add_generation_prompt": False}, NO_SYSTEM + HI, id="no-generation-prompt"),
        pytest.param(
            [{"role": "system", "content": "Be brief."}, user("Hi")],
            {"add_generation_prompt": False},
            "<|im_start|>system\nBe brief.<|im_end|>\n" + HI,
            id="a-system-turn",
        ),
        pytest.param(
            [user("Hi"), assistant("Yes.", reasoning_content="They greet."), user("Hi")],
            {"add_generation_prompt": False},
            ASKED + "<think></think>Yes.<|im_end|>\n" + HI,
            id="old-reasoning-is-cut",
        ),
        pytest.param(
            [user("Hi"), assistant("Yes.", reasoning_content="They greet."), user("Hi")],
            {"add_generation_prompt": False, "truncate_history_thinking": False},
            ASKED + "<think>\nThey greet.\n</think>\nYes.<|im_end|>\n" + HI,
            id="old-reasoning-is-kept-on-demand",
        ),
        pytest.param(
            [user("Hi"), assistant("Yes.", reasoning_content="They greet.")],
            {"add_generation_prompt": False},
            ASKED + "<think>\nThey greet.\n</think>\nYes.<|im_end|>\n",
            id="the-last-reasoning-stays",
        ),
    ],
)
def test_conversations_are_rendered_as_chatml(
    turns: list[dict[str, str]], options: dict[str, Any], rendered: str
) -> None:
    assert AUTO.apply_chat_template(turns, tokenize=False, **{"add_generation_prompt": True, **options}) == rendered


def test_an_unknown_role_is_refused_by_name() -> None:
    with pytest.raises(TemplateError, match="not 'tool'"):
        AUTO.apply_chat_template([user("Hi"), {"role": "tool", "content": "42"}], tokenize=False)
