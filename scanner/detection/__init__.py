"""Finds possible API tokens in bytes. Raw tokens stay in this package and in `scanner.isolation`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanner.detection.budgets import ScanBudget
    from scanner.detection.detector import Detector, ScanResult
    from scanner.detection.digests import Digester, hmac_sha256_digester, sha256_digest
    from scanner.detection.documents import Candidate, Document, Place, PlaceKind
    from scanner.detection.redaction import redact

__all__ = [
    "Candidate",
    "Detector",
    "Digester",
    "Document",
    "Place",
    "PlaceKind",
    "ScanBudget",
    "ScanResult",
    "hmac_sha256_digester",
    "redact",
    "sha256_digest",
]

_MODULES = {
    "budgets": ("ScanBudget",),
    "detector": ("Detector", "ScanResult"),
    "digests": ("Digester", "hmac_sha256_digester", "sha256_digest"),
    "documents": ("Candidate", "Document", "Place", "PlaceKind"),
    "redaction": ("redact",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the module that defines the public name `name`, and return the value of that name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
