"""Find the tokens of which a request speaks in words."""

from dataclasses import replace
from typing import Final

from tokenizers import Tokenizer as HuggingFaceTokenizer

from nemotron_api.errors import InvalidRequest
from nemotron_backend.request import GenerationRequest
from nemotron_runtime import Guide, SamplingParams, ThinkingBudget

THINK: Final = ("<think>", "</think>")
SEEDS: Final = 1 << 64


class Vocabulary:
    """The tokens of one tokenizer."""

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        self._tokenizer = tokenizer
        ids = list(tokenizer.get_vocab().values())
        texts = tokenizer.decode_batch([[id_] for id_ in ids], skip_special_tokens=False)
        self._newline_ids = frozenset(id_ for id_, text in zip(ids, texts, strict=True) if "\n" in text)

    def spelling(self, text: str) -> tuple[int, ...]:
        """The tokens of `text` as it stands."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def spellings(self, word: str) -> tuple[tuple[int, ...], ...]:
        """The tokens of `word`, at a text's start and after a blank."""
        return tuple({self.spelling(word): None, self.spelling(f" {word.lstrip()}"): None})

    @property
    def thoughts(self) -> tuple[int | None, int | None]:
        """The tokens that begin and end thoughts; None where the model has none."""
        start, end = (self._tokenizer.token_to_id(token) for token in THINK)
        return start, end

    def guide(self, guide: Guide) -> Guide:
        """The same with the tokens between which an answer need not follow it."""
        start, end = self.thoughts
        return replace(guide, start_id=start, end_id=end)

    def thinking(self, tokens: int) -> ThinkingBudget:
        """A budget of `tokens`. Raises InvalidRequest for a model that does not think."""
        start, end = self.thoughts
        if start is None or end is None:
            raise InvalidRequest(
                f"this model's vocabulary has no {' and '.join(THINK)}, so it cannot think: leave reasoning_budget out"
            )
        return ThinkingBudget(start, end, self._newline_ids, tokens)


def settle(request: GenerationRequest, vocabulary: Vocabulary) -> tuple[SamplingParams, ...]:
    """How to sample each of the request's answers. Raises InvalidRequest."""
    sampling = replace(
        request.sampling,
        bad_words=tuple(tokens for word in request.bad_words for tokens in vocabulary.spellings(word)),
        logit_bias=_bias(request, vocabulary),
        guide=request.sampling.guide and vocabulary.guide(request.sampling.guide),
        thinking=None if request.reasoning_budget is None else vocabulary.thinking(request.reasoning_budget),
    )
    # What is told of the prompt is told once, before anything that could be resumed.
    others = replace(sampling, prompt_logprobs=None)
    first = others if request.resumed else sampling
    return tuple(
        replace(others if index else first, seed=(sampling.seed + index) % SEEDS) for index in range(request.answers)
    )


def _bias(request: GenerationRequest, vocabulary: Vocabulary) -> tuple[tuple[int, float], ...]:
    """What is said of a token by id and in words adds up; a word's number goes to each of its tokens."""
    bias: dict[int, float] = {}
    words = [(token, number) for word, number in request.bias_words for token in set(vocabulary.spelling(word))]
    for token, number in (*request.sampling.logit_bias, *words):
        bias[token] = bias.get(token, 0.0) + number
    return tuple(bias.items())
