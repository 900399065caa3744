"""A tokenizer without training: token n is byte n, and a few special tokens follow."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers


def byte_level(*special: str) -> Tokenizer:
    """The hardest case: every character beyond ASCII takes several tokens."""
    alphabet = _byte_letters()
    tokenizer = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _byte_letters() -> list[str]:
    """The letter by which byte-level tokenizers write each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


BYTE_LEVEL = byte_level()


def decode(ids: Sequence[int]) -> str:
    return str(BYTE_LEVEL.decode(list(ids)))
