"""Turn the tokens of one request into what its client reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nemotron_backend.detokenize import Detokenizer
from nemotron_backend.request import GenerationRequest
from nemotron_backend.stop_words import StopWords


@dataclass(frozen=True, slots=True)
class Chunk:
    """One response. `finish_reason` is empty until the last one; `completion_tokens` counts from the first."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Answer:
    """Gathers tokens until `take` hands them out; a stop word ends it in the middle of what the engine made."""

    def __init__(self, request: GenerationRequest, prompt_tokens: int, decode: Callable[[Sequence[int]], str]) -> None:
        self._detokenizer = Detokenizer(decode)
        self._stop_words = StopWords(request.stop_words)
        self._seeks = bool(request.stop_words)
        self._text: list[str] = [request.prompt] if request.echo_prompt and isinstance(request.prompt, str) else []
        self._token_ids: list[int] = []
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self.finish_reason = ""

    def extend(self, token_ids: Sequence[int], finish_reason: str = "") -> None:
        """Add the next tokens; with a reason they are the last ones. Tokens after the end are dropped."""
        if self.finish_reason:
            return
        # Stop words are looked for after every token, so that the answer does not depend on how tokens were gathered.
        groups = [(token_id,) for token_id in token_ids] if self._seeks else [tuple(token_ids)]
        for group in groups:
            self._add(group)
            if self._stop_words.found:
                self.finish_reason = "stop"
                return
        if finish_reason:
            self._finish(finish_reason)

    def take(self) -> Chunk:
        """Everything gathered since the last call."""
        text, self._text = "".join(self._text), []
        token_ids, self._token_ids = tuple(self._token_ids), []
        return Chunk(text, token_ids, self.finish_reason, self._prompt_tokens, self._completion_tokens)

    def _add(self, token_ids: Sequence[int]) -> None:
        self._token_ids.extend(token_ids)
        self._completion_tokens += len(token_ids)
        self._text.append(self._stop_words.push(self._detokenizer.push(token_ids)))

    def _finish(self, reason: str) -> None:
        self._text.append(self._stop_words.push(self._detokenizer.flush()))
        self._text.append(self._stop_words.flush())
        self.finish_reason = "stop" if self._stop_words.found else reason
