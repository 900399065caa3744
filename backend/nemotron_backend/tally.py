"""Count what happened to requests, cheaply, for the metrics."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

from nemotron_api.errors import NemotronError
from nemotron_runtime.histogram import Histogram

FIRST_TOKEN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
INTER_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
TOKENS: Final = (10, 50, 100, 500, 1000)
"""The bounds that dashboards of the TensorRT-LLM backend know; the length of contexts since then is in the sums."""


class Tally:
    """What only the backend sees of its requests; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()
        self.requests = 0
        self.first_token = Histogram(FIRST_TOKEN_SECONDS)
        self.inter_token = Histogram(INTER_TOKEN_SECONDS)
        self.prompt_length = Histogram(TOKENS)
        self.answer_length = Histogram(TOKENS)

    def admitted(self) -> None:
        with self._lock:
            self.requests += 1

    def failed(self, error: NemotronError) -> None:
        with self._lock:
            self._failures[error.reason] += 1

    def ended(self, prompt_tokens: int, answers: Sequence[int]) -> None:
        """A request that the engine had taken ended, with so many tokens in each of its answers."""
        with self._lock:
            self.prompt_length.observe(prompt_tokens)
            for tokens in answers:
                self.answer_length.observe(tokens)

    def produced(self, admitted_at: float, previous: float | None, times: Sequence[float]) -> None:
        """Tokens came at `times` for a request admitted at `admitted_at`; `previous` is the token before them."""
        with self._lock:
            for time in times:
                if previous is None:
                    self.first_token.observe(time - admitted_at)
                else:
                    self.inter_token.observe(time - previous)
                previous = time

    @property
    def failures(self) -> dict[str, int]:
        """Failed requests by reason."""
        with self._lock:
            return dict(self._failures)
