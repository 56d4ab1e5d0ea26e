"""The leaks that a user of the sandbox can cause. Each publishes a new token."""

from __future__ import annotations

import base64
import io
import itertools
import random
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scanner.compromise.reports import Subject, new_report, record
from scanner.detection.digests import sha256_digest
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.sandbox.tokens import random_token
from workers.sandbox.workplace import Workplace
from workers.sandbox.world import World

PEOPLE = ("ana", "ben", "chloe", "dario", "emi", "farid")
REPORTED = 80
"""The number of tokens to report, which is more than the default of R8SCAN_BRAKE_PER_MINUTE."""
OUTAGE_SECONDS = 180
"""How long a simulated outage lasts. The operator gets a mail about it after two minutes."""
LIMITED = "GitHub refuses git requests: the push waits, unless code search shows the file first"
PROJECTS = ("image-bot", "weather", "site", "notes", "toolbox")
HISTORY = "import replicate\n\nclient = replicate.Client(api_token={!r})\n"


@dataclass(frozen=True, slots=True)
class Leak:
    """A leak that a user of the sandbox has caused.

    Attributes:
        shown: The first and last characters of the token.
        place: Where the token was published.
    """

    kind: str
    digest: str
    shown: str
    place: str

    @property
    def sentence(self) -> str:
        """Return one line that says what happened."""
        if self.kind == "brake":
            return f"{self.shown} is one of {self.place}"
        return f"{self.shown} is public: {self.place}"


class UnknownKind(Exception):
    """Raised if there is no leak of this kind. The message names all kinds."""


class Leaks:
    """Causes leaks on the simulated GitHub. The methods return a text that says where the token is."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._work: dict[str, Workplace] = {}

    def cause(self, kind: str) -> Leak:
        """Cause a leak of this kind with a new token, and return the leak.

        Raises:
            UnknownKind: There is no such kind.
        """
        if kind not in KINDS:
            raise UnknownKind(f'there is no kind "{kind}": {", ".join(KINDS)}')
        with self._lock:
            number = next(self._numbers)
            person = random.choice(PEOPLE)  # noqa: S311 - nothing is secret here
            token = random_token()
            repository = f"{person}/{random.choice(PROJECTS)}"  # noqa: S311 - nothing is secret here
            digest = self._register(kind, token, person, number)
            place = KINDS[kind].publish(self, repository, token, number)
        return Leak(kind, digest, f"{token[:6]}…{token[-4:]}", place)

    def brake(self, repository: str, token: str, number: int) -> str:
        """Report more tokens than r8scan may disable in a minute. Return their number as text."""
        del repository
        digests = [sha256_digest(random_token().encode()) for _ in range(REPORTED - 1)]
        name = f"token of report {number}"
        with self._world.database.write() as session:
            entries = [ImportedToken(digest, "", name, None, ("ana@example.com",)) for digest in digests]
            ImportRun.begin().write(session, entries)
        subjects = [Subject(digest) for digest in (*digests, sha256_digest(token.encode()))]
        note = f"the sandbox's report {number}: a list found on a stolen laptop"
        given = [new_report(one, sign="stolen_laptop", note=note, reporter="sandbox") for one in subjects]
        record(self._world.database, given)
        return f"{REPORTED} tokens that were reported at once; the brake holds those above its quota of a minute"

    def limit(self, repository: str, token: str, number: int) -> str:
        """Push a token while GitHub refuses all git requests that read repositories."""
        place = self.push(repository, token, number)
        github = self._world.github
        github.git_limit = 0
        _later(lambda: setattr(github, "git_limit", None))
        return f"{place}; for {OUTAGE_SECONDS} s {LIMITED}"

    def mail_down(self, repository: str, token: str, number: int) -> str:
        """Push a token while the mail server accepts no mail."""
        mailbox = self._world.mailbox
        mailbox.is_down = True
        _later(lambda: setattr(mailbox, "is_down", False))
        place = self.push(repository, token, number)
        return f"{place}; for {OUTAGE_SECONDS} s the mail server accepts no mail, so the owner's mail waits"

    def _register(self, kind: str, token: str, person: str, number: int) -> str:
        digest = sha256_digest(token.encode())
        if kind == "unknown":
            return digest
        email = "" if kind == "nobody" else f"{person}@example.com"
        self._world.register(token, email=email, name=f"{person}'s token {number}")
        if kind == "protected":
            with self._world.database.write() as session:
                sql.protect(session, digest, protected=True)
        return digest

    def _workplace(self, repository: str) -> Workplace:
        work = self._work.get(repository)
        if work is None:
            self._world.github.create_repository(repository)
            work = self._world.workplace(repository, f"work-{repository.replace('/', '-')}")
            work.write("README.md", f"# {repository}\n")
            work.commit("Begin")
            work.push()
            self._work[repository] = work
        return work

    def push(self, repository: str, token: str, number: int) -> str:
        """Push a commit with the token."""
        return self._pushed(repository, f"app{number}.py", HISTORY.format(token).encode())

    def removed(self, repository: str, token: str, number: int) -> str:
        """Push two commits at once: the first adds the token, the second removes it."""
        work = self._workplace(repository)
        work.write(f"app{number}.py", HISTORY.format(token))
        work.commit("Generate images")
        work.write(f"app{number}.py", "import replicate\n")
        work.commit("Read the token from the environment")
        work.push()
        return f"{repository}, in a commit whose child removes it"

    def archive(self, repository: str, token: str, number: int) -> str:
        """Push a zip archive that contains the token in base64."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config/secrets.yaml", f"key: {base64.b64encode(token.encode()).decode()}\n")
        return self._pushed(repository, f"backup{number}.zip", content.getvalue())

    def _pushed(self, repository: str, path: str, content: bytes) -> str:
        work = self._workplace(repository)
        work.write(path, content)
        work.commit(f"Add {path}")
        work.push()
        return f"{repository}, file {path}"

    def gist(self, repository: str, token: str, number: int) -> str:
        """Publish a gist with the token. As on GitHub, this creates no event."""
        owner = repository.partition("/")[0]
        gist = self._world.github.create_gist({f"example{number}.py": HISTORY.format(token).encode()}, owner)
        return f"gist {gist.id} of {owner}"

    def issue(self, repository: str, token: str, number: int) -> str:
        """Open an issue whose text contains the token."""
        self._workplace(repository)
        self._world.github.open_issue(repository, "It does not work", f"I call it with `{token}`", number)
        return f"{repository}, issue {number}"

    def comment(self, repository: str, token: str, number: int) -> str:
        """Write a comment that contains the token."""
        self._workplace(repository)
        self._world.github.comment(repository, f"Try `REPLICATE_API_TOKEN={token} python app.py`", number)
        return f"{repository}, comment on issue {number}"


def _later(end: Callable[[], None]) -> None:
    """Call `end` after `OUTAGE_SECONDS` in another thread."""
    timer = threading.Timer(OUTAGE_SECONDS, end)
    timer.daemon = True
    timer.start()


Publish = Callable[[Leaks, str, str, int], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of leak: the method that causes it, and one line that describes it to the user."""

    publish: Publish
    summary: str


KINDS: Mapping[str, Kind] = {
    "push": Kind(Leaks.push, "a file with a token is pushed"),
    "removed": Kind(Leaks.removed, "a token is added and removed again by one push"),
    "archive": Kind(Leaks.archive, "a zip with a base64 token in it is pushed"),
    "gist": Kind(Leaks.gist, "a public gist; gists are listed once a minute"),
    "issue": Kind(Leaks.issue, "an issue quotes a token"),
    "comment": Kind(Leaks.comment, "a comment quotes a token"),
    "unknown": Kind(Leaks.push, "a well-formed token that the token store does not know: nothing must happen"),
    "protected": Kind(Leaks.push, "a protected token: it stays live, and the operator is told to decide"),
    "brake": Kind(Leaks.brake, f"{REPORTED} tokens are reported at once: the brake holds some until you decide"),
    "limit": Kind(Leaks.limit, f"for {OUTAGE_SECONDS} s {LIMITED}"),
    "mail-down": Kind(Leaks.mail_down, f"the mail server is down for {OUTAGE_SECONDS} s: a mail waits, none is lost"),
    "nobody": Kind(Leaks.push, "a token without a mail address: the operator is told"),
}
