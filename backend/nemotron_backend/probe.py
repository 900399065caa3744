"""Generate one token through the server's own gRPC port."""

import queue
from threading import Event, Thread
from typing import Any, Final

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from nemotron_api.errors import NemotronError

ATTEMPT_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.2


def generate_one_token(address: str, model: str, timeout_seconds: float = ATTEMPT_SECONDS) -> None:
    """Raises NemotronError or InferenceServerException, or queue.Empty after `timeout_seconds`, when no token comes."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(callback=lambda result, error: answers.put(error or result))
        answered = False
        try:
            client.async_stream_infer(model, [_input("input_ids", np.zeros(1, np.int32)), *_ONE_TOKEN])
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


class Prober:
    """Tries in a thread until a token comes, so that the launcher's loop never waits for the network."""

    def __init__(self, address: str, model: str) -> None:
        self._stopped = Event()
        self._generated = Event()
        self.problem = "the server does not listen yet"
        Thread(target=self._try, args=(address, model), name="prober", daemon=True).start()

    @property
    def generated(self) -> bool:
        return self._generated.is_set()

    def stop(self) -> None:
        self._stopped.set()

    def _try(self, address: str, model: str) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            try:
                generate_one_token(address, model)
            except queue.Empty:
                self.problem = f"no token within {ATTEMPT_SECONDS:g} s"
            except Exception as error:  # noqa: BLE001  whatever it is, it is shown, and tried again
                self.problem = str(error)
            else:
                self._generated.set()
                return
