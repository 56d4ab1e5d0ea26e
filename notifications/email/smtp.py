"""Sends mails by SMTP. Each mail has a deadline."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from notifications.email.deadline import SocketWatchdog, connect
from notifications.email.transport import Envelope, PermanentFailure, TransientFailure, TransportDown
from notifications.email.wording import clean

MAX_REPLY_LENGTH = 200

# These replies mean that r8scan's settings are wrong, not that the recipient is bad: authentication is required (RFC
# 4954, section 6), a status about security or policy (RFC 3463, section 3.8), or the word "relay" in a reply without a
# status.
_AUTHENTICATION_CODES = (530, 534, 535, 538)
_CONFIGURATION_REPLY = re.compile(r"\d+ (5\.7\.\d+\b|(?!5\.\d+\.\d+\b).*\brelay)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SmtpTransport:
    """A mail server, and the settings for connecting to it. `security` is `smtp`, `smtp+starttls` or `smtps`."""

    host: str
    port: int
    security: str
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @contextmanager
    def open(self) -> Iterator[SmtpConnection]:
        """Yield a connection, and close it when the `with` block ends."""
        pooled = SmtpConnection(self)
        try:
            yield pooled
        finally:
            pooled.close()


class _Client(smtplib.SMTP):
    """An smtplib client that shuts the connection down at a deadline."""

    def __init__(self, host: str, watchdog: SocketWatchdog) -> None:
        self.watchdog = watchdog
        super().__init__(local_hostname=_own_name())
        # `starttls` checks the certificate against this name. smtplib sets it only if its constructor opens the
        # connection.
        self._host = host

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        del timeout
        connection = connect(host, port, self.watchdog)
        self.watchdog.guard(connection)
        return connection


class _TlsClient(_Client):
    """An SMTP client that uses TLS from the start of the connection."""

    def __init__(self, host: str, watchdog: SocketWatchdog, tls: ssl.SSLContext) -> None:
        self.tls = tls
        super().__init__(host, watchdog)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self.tls.wrap_socket(super()._get_socket(host, port, timeout), server_hostname=host)


class SmtpConnection:
    """One SMTP connection, which connects when needed. Threads must not share it."""

    def __init__(self, transport: SmtpTransport) -> None:
        self._to = transport
        self._client: _Client | None = None

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        """Send the mail, after connecting if needed. See `MailConnection.send`."""
        self._by(deadline, lambda client: self._hand_over(client, envelope))

    def rehearse(self, sender: str, recipient: str, *, deadline: float) -> None:
        """Test the settings: connect, log in, and name a sender and a recipient, but send no mail.

        Args:
            sender: The address to which servers would return a mail.
            recipient: The address of the recipient, or an empty string to name only the sender.
            deadline: The latest time to end, by `time.monotonic`.

        Raises:
            TransientFailure: the server accepts no mail now, or the settings are wrong.
            PermanentFailure: the server will never accept a mail for this recipient.
        """
        self._by(deadline, lambda client: self._address(client, sender, recipient))

    def _by(self, deadline: float, act: Callable[[_Client], None]) -> None:
        watchdog = SocketWatchdog(deadline)
        try:
            act(self._ready(watchdog))
        except (TransientFailure, PermanentFailure, OSError, smtplib.SMTPException, ValueError) as err:
            if watchdog.has_expired:  # the answer was cut off, so its content is meaningless
                self._drop()
                raise TransportDown(f"the mail server {self._name} did not finish in time") from None
            if isinstance(err, TransientFailure | PermanentFailure):
                if isinstance(err, TransportDown):
                    self._drop()
                raise
            self._drop()
            raise TransientFailure(f"the connection to {self._name} broke: {_words_of(err)}") from err
        finally:
            watchdog.dismiss()

    def close(self) -> None:
        """Send QUIT and close the connection."""
        if self._client is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._client.putcmd("quit")
        self._drop()

    @property
    def _name(self) -> str:
        return f"{self._to.host}:{self._to.port}"

    def _ready(self, watchdog: SocketWatchdog) -> _Client:
        """Return a connected client. Test an existing connection first."""
        if self._client is not None:
            try:
                assert self._client.sock is not None  # noqa: S101 - `_drop` forgets clients without a socket
                self._client.watchdog = watchdog
                watchdog.guard(self._client.sock)
                if self._client.rset()[0] == 250:
                    return self._client
            except (OSError, smtplib.SMTPException):
                if watchdog.has_expired:
                    raise
            watchdog.dismiss()
            self._drop()
        return self._connect(watchdog)

    def _connect(self, watchdog: SocketWatchdog) -> _Client:
        to = self._to
        is_tls = to.security == "smtps"
        client = _TlsClient(to.host, watchdog, self._tls()) if is_tls else _Client(to.host, watchdog)
        self._client = client
        try:
            code, reply = client.connect(to.host, to.port)
            if code != 220:
                raise self._down("greeted with", code, reply)
            client.ehlo_or_helo_if_needed()
            if to.security == "smtp+starttls":
                client.starttls(context=self._tls())
                client.ehlo_or_helo_if_needed()
            if to.user:
                client.login(to.user, to.password)
        except TransportDown:
            raise
        except smtplib.SMTPAuthenticationError as err:
            # Report only the code. The text of the server's reply could contain the password.
            permanent = err.smtp_code >= 500
            raise TransportDown(
                f"{self._name} refused the login ({err.smtp_code}): check R8SCAN_SMTP_URL", is_configuration=permanent
            ) from None
        except smtplib.SMTPResponseException as err:
            raise self._down("answered", err.smtp_code, _bytes(err.smtp_error)) from None
        except smtplib.SMTPNotSupportedError as err:
            raise TransportDown(f"{self._name}: {_words_of(err)}", is_configuration=True) from None
        except ssl.SSLCertVerificationError as err:
            reason = f"the certificate of {self._name} cannot be trusted: {clean(err.verify_message, MAX_REPLY_LENGTH)}"
            raise TransportDown(reason, is_configuration=True) from None
        except (OSError, smtplib.SMTPException, ValueError) as err:
            raise TransportDown(f"cannot reach the mail server {self._name}: {_words_of(err)}") from None
        return client

    def _hand_over(self, client: _Client, envelope: Envelope) -> None:
        self._address(client, envelope.sender, envelope.recipient)
        try:
            code, reply = client.data(envelope.content)
        except smtplib.SMTPDataError as err:
            code, reply = err.smtp_code, _bytes(err.smtp_error)
        if code != 250:
            raise self._refusal("the message", code, reply)

    def _address(self, client: _Client, sender: str, recipient: str) -> None:
        """Tell the server the sender and, unless it is empty, the recipient."""
        client.ehlo_or_helo_if_needed()
        code, reply = client.mail(sender)
        if code != 250:
            raise self._down("refused the sender with", code, reply)
        if not recipient:
            return
        code, reply = client.rcpt(recipient)
        if code not in (250, 251):
            raise self._refusal("the recipient", code, reply)

    def _refusal(self, what: str, code: int, reply: bytes) -> Exception:
        words = _reply_words(code, reply)
        if code == 421 or code < 0:
            return TransportDown(f"{self._name} closed the connection: {words}")
        if code >= 500 and code not in _AUTHENTICATION_CODES and not _CONFIGURATION_REPLY.match(words):
            return PermanentFailure(f"refused {what}: {words}")
        return TransientFailure(f"{self._name} refused {what}: {words}")

    def _down(self, did: str, code: int, reply: bytes) -> TransportDown:
        reason = f"the mail server {self._name} {did} {_reply_words(code, reply)}"
        return TransportDown(reason, is_configuration=code >= 500)

    def _tls(self) -> ssl.SSLContext:
        return self._to.tls or ssl.create_default_context()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _own_name() -> str:
    # Without a name of this machine, smtplib would ask a name server and might wait forever.
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"


def _reply_words(code: int, reply: bytes) -> str:
    return clean(f"{code} {reply.decode('utf-8', 'replace')}", MAX_REPLY_LENGTH)


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")


def _words_of(err: BaseException) -> str:
    words = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
    return clean(words or type(err).__name__, MAX_REPLY_LENGTH)
