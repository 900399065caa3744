"""Ask replicas things over HTTP: a token through the Service, and the metrics of each pod."""

import asyncio
import math
from collections.abc import Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from nemotron_api import names
from nemotron_operator.observed import Load

_TOKEN_SECONDS = 30.0
_ANSWER_CHARACTERS = 500
_PAUSES = (0.1, 0.2, 0.4, 0.8)
_METRICS_SECONDS = 2.0
_WAITING, _USED, _TOTAL = "nemotron_waiting_requests", "nemotron_state_slots_used", "nemotron_state_slots_total"


class Prober:
    """Holds the HTTP session; connections are not kept, so that every question takes the path a new client takes."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Prober":
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=64))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session
        await self._session.close()

    async def ask_for_token(self, address: str, *, patient: bool = False) -> str:
        """Generate one token through a Service's address; the reason why not, empty when one came.

        Args:
            patient: ask for some moments, as long as nodes may take to hear of a Service's first ready pod.
        """
        why_not = await self._ask(address)
        for pause in _PAUSES if patient else ():
            if not why_not:
                break
            await asyncio.sleep(pause)
            why_not = await self._ask(address)
        return why_not

    async def _ask(self, address: str) -> str:
        assert self._session
        url = f"http://{_host(address)}:{names.HEALTH_PORT}{names.TOKEN_PATH}"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_TOKEN_SECONDS)) as response:
                answer = (await response.text()).strip()
                proven = response.status == 200 and answer == "ok"
                return "" if proven else f"The Service answered {response.status}: {answer[:_ANSWER_CHARACTERS]}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return f"No token through the Service: {type(error).__name__}: {error}"

    async def load(self, addresses: Sequence[str]) -> Load:
        """Waiting requests and state slots over all replicas; a replica that does not answer is left out."""
        answers = await asyncio.gather(*(self._scrape(address) for address in addresses))
        got = [answer for answer in answers if answer]
        waiting, used, total = (int(sum(answer[name] for answer in got)) for name in (_WAITING, _USED, _TOTAL))
        return Load(len(addresses), len(got), waiting, used, total)

    async def _scrape(self, address: str) -> dict[str, float] | None:
        assert self._session
        url = f"http://{_host(address)}:{names.METRICS_PORT}/metrics"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_METRICS_SECONDS)) as response:
                return _load_of(await response.text()) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def _load_of(text: str) -> dict[str, float] | None:
    """The three numbers scaling needs, if all of them are there.

    Raises:
        ValueError: the text is not in Prometheus' format.
    """
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    values = {s.name: s.value for s in samples if s.name in (_WAITING, _USED, _TOTAL) and math.isfinite(s.value)}
    return values if len(values) == 3 else None


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
