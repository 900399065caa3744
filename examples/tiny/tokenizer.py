"""Make the byte-level tokenizer: one token per byte, with the family's special tokens at the family's ids."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    *("<pad>", "<s>", "</s>"),
    *(f"<SPECIAL_{i}>" for i in range(3, 10)),
    *("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    *("<SPECIAL_14>", "<SPECIAL_15>"),
)
PAD, BOS, EOS = 0, 1, 2
IM_START, IM_END = 10, 11
FIRST_BYTE = len(SPECIAL_TOKENS)  # byte b is token FIRST_BYTE + b
VOCAB_SIZE = FIRST_BYTE + 256
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def build() -> PreTrainedTokenizerFast:
    """The tokenizer as transformers uses it; its `save_pretrained` writes every file a loader wants."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    vocabulary |= {letter: FIRST_BYTE + byte for byte, letter in enumerate(byte_letters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def byte_letters() -> list[str]:
    """The printable letter the ByteLevel alphabet writes for each byte, in the order of the bytes.

    Printable Latin-1 bytes stand for themselves; the others take U+0100, U+0101, … in turn.
    """
    itself = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    rest = iter(range(256, 512))
    return [chr(byte if byte in itself else next(rest)) for byte in range(256)]
