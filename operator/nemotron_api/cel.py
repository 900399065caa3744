"""Attach rules that the API server checks to fields of the CRDs."""

from typing import Any


def cel(rule: str, message: str, **more: str) -> dict[str, Any]:
    """One validation the API server runs; `message` is what the user reads."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message, **more}]}
