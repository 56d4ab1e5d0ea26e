"""The detector: finds possible tokens in bytes and returns them as candidates.

A candidate has the digest and a short hint of a token, but not the token itself.

This package uses no database, no network and no settings. Raw tokens stay in this package and in `scanner.isolation`,
which runs parts of this package in confined processes. Other code hashes a raw token as soon as it receives one.

Public names are imported when they are first used, because most commands need the digests of tokens but not the
detector.
"""

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
    """Import the module that has a public name, and return the name's value.

    Python calls this function when a name is first used.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
