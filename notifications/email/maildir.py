"""Writes mails into a Maildir folder, for installations without a mail server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from notifications.email.transport import Envelope, TransportDown


@dataclass(frozen=True, slots=True)
class MaildirTransport:
    """Writes mails into `folder` instead of sending them. Creates the folder if it does not exist."""

    folder: Path

    @contextmanager
    def open(self) -> Iterator[MaildirTransport]:
        """Yield the transport itself."""
        yield self

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        """Write the mail into the folder once, even if it is sent twice. Ignore the deadline.

        Raises:
            TransportDown: the folder cannot be written.
        """
        del deadline
        # The name is always the same for a mail, so that a second copy replaces the first one.
        name = f"{hashlib.sha256(envelope.message_id.encode()).hexdigest()[:32]}.r8scan"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in ("tmp", "new", "cur"):
                (self.folder / part).mkdir(mode=0o700, exist_ok=True)
            if any((self.folder / "cur").glob(f"{name}:*")):
                return
            self._write(name, envelope.content.replace(b"\r\n", b"\n"))
        except OSError as err:
            raise TransportDown(f"cannot write to the Maildir {self.folder}: {err.strerror}") from err

    def _write(self, name: str, content: bytes) -> None:
        # Two processes may write the same mail at the same time, so each uses its own temporary file.
        temporary = self.folder / "tmp" / f"{name}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / "new" / name)
        folder = os.open(self.folder / "new", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
