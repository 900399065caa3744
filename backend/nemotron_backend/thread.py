"""Start threads whose death ends the process."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

SOFTWARE_FAILURE: Final = 70
"""EX_SOFTWARE of sysexits.h."""


def start(name: str, target: Callable[[], None]) -> threading.Thread:
    """Run `target` in a thread.

    Without this thread requests would hang, which nobody sees from outside; a dead process the launcher replaces.
    """

    def guarded() -> None:
        try:
            target()
        except BaseException:
            log.exception("thread %s failed; ending the process", name)
            logging.shutdown()
            os._exit(SOFTWARE_FAILURE)

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread
