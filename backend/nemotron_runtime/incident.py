"""Write what went wrong to the log under a number, by which whoever is only told of it can ask for it."""

import logging
import secrets


def record(log: logging.Logger, what: str, error: BaseException) -> str:
    """Log `what` happened, with the error and its traceback; returns the incident's name, which tells nothing of it."""
    incident = f"incident {secrets.token_hex(4)}"
    log.error("%s (%s)", what, incident, exc_info=error)
    return incident
