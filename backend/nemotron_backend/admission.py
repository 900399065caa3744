"""Decide whether a request may join those in flight."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from nemotron_api.errors import InvalidRequest, Overloaded, RequestError

REMEMBERED: Final = 64
LONGEST_HINT_SECONDS: Final = 600


def refusal(limit: int | None, client: str, clients: Sequence[str], asked: int) -> RequestError | None:
    """Why `client`, who asks for so many answers, must wait while `clients` are served; None when it need not.

    `clients` has one entry per answer in flight; `limit` is how many one client may have, None is any number.
    """
    if limit is None or (count := clients.count(client)) + asked <= limit:
        return None
    if asked > limit:
        return InvalidRequest(
            f"{asked} answers are asked for, at most {limit} may one client have in flight: ask for fewer"
        )
    whose = f"client {client!r} has" if client else "clients without a name (parameter client) have"
    return Overloaded(
        f"{whose} {count} answers in flight and {asked} more asked for, at most {limit} may be: "
        "wait until some have ended"
    )


class Pace:
    """How fast requests end, measured over the latest of them."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=REMEMBERED)

    def ended(self, now: float) -> None:
        """One request ended at `now`, in seconds."""
        self._ends.append(now)

    def seconds_for(self, requests: int, now: float) -> int | None:
        """How long so many requests take at this pace, in whole seconds; None when nothing was measured yet."""
        if len(self._ends) < 2:
            return None
        # Up to now, not up to the latest end: where nothing ends any more, the pace must fall.
        seconds = requests * (now - self._ends[0]) / (len(self._ends) - 1)
        return min(max(math.ceil(seconds), 1), LONGEST_HINT_SECONDS)


def with_hint(error: Overloaded, seconds: int | None) -> Overloaded:
    """`error` with the time after which another try makes sense."""
    return error if seconds is None else Overloaded(f"{error}; at the present pace, in about {seconds} s")
