"""Turn the tokens of one answer into what its client reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nemotron_api.errors import InvalidRequest
from nemotron_backend.detokenize import Detokenizer
from nemotron_backend.request import GenerationRequest
from nemotron_backend.stop_words import StopWords
from nemotron_runtime import TokenLogprobs


@dataclass(frozen=True, slots=True)
class Chunk:
    """One response. `finish_reason` is empty until the last one; `completion_tokens` counts from the first."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    sequence_index: int | None = None
    """Which of several answers this is of; None where there is one."""
    logprobs: tuple[TokenLogprobs, ...] | None = None
    """One for each of `token_ids`; None where nobody asked."""
    cum_log_probs: float = 0.0
    """Their sum since the first response."""
    prompt_logprobs: tuple[TokenLogprobs, ...] | None = None
    """Of the prompt's tokens from the second on, in the first response of a request that asked for them."""


class Answer:
    """Gathers tokens until `take` hands them out; a stop word ends it in the middle of what the engine made.

    A resumed answer begins in the state in which the one before it stopped: what the client has already is not handed
    out again. Raises InvalidRequest when that was all of it.
    """

    def __init__(
        self, request: GenerationRequest, prompt_tokens: int, decode: Callable[[Sequence[int]], str], index: int = 0
    ) -> None:
        self._request = request
        self._detokenizer = Detokenizer(decode)
        self._stop_words = StopWords(request.stop_words, included=request.include_stop_words)
        self._text: list[str] = [request.prompt] if request.echo_prompt and isinstance(request.prompt, str) else []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._prompt_logprobs: tuple[TokenLogprobs, ...] | None = None
        self._cum_log_probs = 0.0
        self._index = index if request.answers > 1 else None
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self.finish_reason = ""
        if request.resumed:
            self._resume(request.resumed)

    def extend(self, token_ids: Sequence[int], finish_reason: str = "", logprobs: Sequence[TokenLogprobs] = ()) -> None:
        """Add the next tokens; with a reason they are the last ones. Tokens after the end are dropped.

        `logprobs` holds one for each token, or nothing where the request asks for none.
        """
        if self.finish_reason:
            return
        # Stop words are looked for after every token, so that the answer does not depend on how tokens were gathered.
        step = 1 if self._request.stop_words else max(1, len(token_ids))
        for start in range(0, len(token_ids), step):
            self._add(token_ids[start : start + step], logprobs[start : start + step])
            if self._stop_words.found:
                self.finish_reason = "stop"
                return
        if finish_reason:
            self._finish(finish_reason)

    def tell_prompt(self, logprobs: tuple[TokenLogprobs, ...] | None) -> None:
        """Add what the model thinks of the prompt, if that is known now, to the next response."""
        self._prompt_logprobs = self._prompt_logprobs if logprobs is None else logprobs

    def take(self) -> Chunk:
        """Everything gathered since the last call."""
        prompt, self._prompt_logprobs = self._prompt_logprobs, None
        text, self._text = "".join(self._text), []
        token_ids, self._token_ids = tuple(self._token_ids), []
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Chunk(
            text,
            token_ids,
            self.finish_reason,
            self._prompt_tokens,
            self._completion_tokens,
            sequence_index=self._index,
            logprobs=None if self._request.sampling.logprobs is None else logprobs,
            cum_log_probs=self._cum_log_probs,
            prompt_logprobs=prompt,
        )

    def _add(self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs] = ()) -> None:
        self._token_ids.extend(token_ids)
        self._logprobs.extend(logprobs)
        self._cum_log_probs += sum(each.chosen for each in logprobs)
        self._completion_tokens += len(token_ids)
        text = self._detokenizer.push(token_ids)
        may_end = self._completion_tokens >= self._request.sampling.min_tokens
        self._text.append(self._stop_words.push(text) if may_end else text)

    def _resume(self, token_ids: Sequence[int]) -> None:
        # Where stop words are looked for, as many tokens at once leave the state that one after the other leaves.
        unsearched = max(0, self._request.sampling.min_tokens - 1)
        for group in (token_ids[:unsearched], token_ids[unsearched:]):
            if group:
                self._add(group)
        if self._stop_words.found:
            raise InvalidRequest("resume_ids hold the whole answer, up to a stop word: there is nothing to go on with")
        self.take()

    def _finish(self, reason: str) -> None:
        self._text.append(self._stop_words.push(self._detokenizer.flush()))
        self._text.append(self._stop_words.flush())
        self.finish_reason = "stop" if self._stop_words.found else reason
