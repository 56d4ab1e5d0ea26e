"""Bytes in, candidates out. Pure: no database, no network, no settings; the only place that ever holds a raw token."""

from scanner.detection.budgets import ScanBudget
from scanner.detection.detector import Detector, ScanResult
from scanner.detection.digests import Digester, hmac_sha256_digester, sha256_digest
from scanner.detection.documents import Candidate, Document, Place, PlaceKind
from scanner.detection.redact import redact

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
