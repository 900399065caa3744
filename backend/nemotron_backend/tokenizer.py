"""Read the tokenizer that was sealed into an engine."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as HuggingFaceTokenizer

from nemotron_api.errors import EngineMismatch, InvalidRequest
from nemotron_backend.vocabulary import Vocabulary


class Tokenizer:
    """Text to ids and back, as the checkpoint does it."""

    def __init__(self, engine: Path) -> None:
        path = engine / "tokenizer.json"
        if not path.is_file():
            raise EngineMismatch(f"{path} is missing: build the engine again from a checkpoint with a tokenizer")
        self._tokenizer = HuggingFaceTokenizer.from_file(str(path))
        self.vocabulary = Vocabulary(self._tokenizer)
        self._longest_token = max((len(token.encode()) for token in self._tokenizer.get_vocab()), default=1)

    def encode(self, text: str, limit: int) -> list[int]:
        """Token ids of `text`. Raises InvalidRequest, before spending time, when they must be more than `limit`."""
        size = len(text.encode())
        if self._tokenizer.normalizer is None and size > limit * self._longest_token:
            raise InvalidRequest(
                f"the prompt has {size} bytes, more than {limit} tokens of at most {self._longest_token} bytes hold: "
                "shorten it, or serve the model with a larger engine.limits.maxSequenceTokens"
            )
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens are silent."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text
