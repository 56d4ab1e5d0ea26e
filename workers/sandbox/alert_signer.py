"""Signs alerts as GitHub's secret scanning does, with a generated key."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class AlertSigner:
    """A generated key pair that signs secret scanning alerts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._pem = pem.decode()
        self.key_id = hashlib.sha256(pem).hexdigest()

    def public_key(self) -> dict[str, str | bool]:
        """Return the public key in the JSON format of GitHub's API."""
        return {"key_identifier": self.key_id, "key": self._pem, "is_current": True}

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the HTTP headers for an alert with this body, including its signature."""
        signature = self._key.sign(body, ec.ECDSA(hashes.SHA256()))
        return {
            "Content-Type": "application/json",
            "Github-Public-Key-Identifier": self.key_id,
            "Github-Public-Key-Signature": base64.b64encode(signature).decode(),
        }
