"""Generate one token through the server's own gRPC port."""

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any, Final

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from nemotron_api.errors import NemotronError
from nemotron_backend.certificate import Certificate

ATTEMPT_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.2
QUESTION_SECONDS: Final = 20.0
FRESH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """The server to ask: `address` as host:port, and its certificate where it has one."""

    address: str
    model: str
    certificate: Certificate | None = None

    def connect(self) -> Any:
        if self.certificate is None:
            return triton.InferenceServerClient(self.address)
        name = ("grpc.ssl_target_name_override", self.certificate.server_name)
        return triton.InferenceServerClient(self.address, creds=self.certificate.credentials, channel_args=[name])


def generate_one_token(target: Target, timeout_seconds: float = ATTEMPT_SECONDS) -> None:
    """Raises NemotronError or InferenceServerException, or queue.Empty after `timeout_seconds`, when no token comes."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with target.connect() as client:
        client.start_stream(callback=lambda result, error: answers.put(error or result))
        answered = False
        try:
            client.async_stream_infer(target.model, [_input("input_ids", np.zeros(1, np.int32)), *_ONE_TOKEN])
            answer = answers.get(timeout=timeout_seconds)
            answered = True
        finally:
            # The server of 2024 can lose track of a request that is cancelled as it ends, and then never stops.
            client.stop_stream(cancel_requests=not answered)
    if isinstance(answer, InferenceServerException):
        raise answer
    token_ids = answer.as_numpy("output_ids")
    if token_ids is None or token_ids.shape != (1,):
        raise NemotronError(f"asked for one token, the server answered with {token_ids}")


def _input(name: str, value: Any) -> Any:
    tensor = triton.InferInput(name, list(value.shape), "BOOL" if value.dtype == bool else "INT32")
    tensor.set_data_from_numpy(value)
    return tensor


_ONE_TOKEN: Final = (_input("max_tokens", np.ones(1, np.int32)), _input("ignore_eos", np.ones(1, bool)))


def why_no_token(target: Target, timeout_seconds: float) -> str | None:
    """What stands in the way of a token, in words; None when one came."""
    try:
        generate_one_token(target, timeout_seconds)
    except queue.Empty:
        return f"no token within {timeout_seconds:g} s"
    except Exception as error:  # noqa: BLE001  whatever it is, it is shown
        return str(error) or type(error).__name__
    return None


class Prober:
    """Tries in a thread until a token comes, so that the launcher's loop never waits for the network."""

    def __init__(self, target: Target) -> None:
        self._stopped = Event()
        self._generated = Event()
        self.problem = "the server does not listen yet"
        Thread(target=self._try, args=(target,), name="prober", daemon=True).start()

    @property
    def generated(self) -> bool:
        return self._generated.is_set()

    def stop(self) -> None:
        self._stopped.set()

    def _try(self, target: Target) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            problem = why_no_token(target, ATTEMPT_SECONDS)
            if problem is None:
                self._generated.set()
                return
            self.problem = problem


class Question:
    """Answers whether tokens come, for whoever asks: one token at a time, however many ask at once."""

    def __init__(self, ask: Callable[[], str | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = Lock()
        self._answered_at = -FRESH_SECONDS
        self._answer: str | None = None

    def __call__(self) -> str | None:
        """Nothing, or why no token came, within the latest second."""
        with self._lock:
            if self._clock() - self._answered_at >= FRESH_SECONDS:
                self._answer = self._ask()
                self._answered_at = self._clock()
            return self._answer
