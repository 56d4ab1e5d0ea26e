"""Leaks that a user of the sandbox can cause.

Each kind publishes a fresh token of an invented person in another way.
"""

from __future__ import annotations

import base64
import io
import itertools
import random
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scanner.detection.digests import sha256_digest
from scanner.tokens import sql
from workers.sandbox.tokens import random_token
from workers.sandbox.workplace import Workplace
from workers.sandbox.world import World

PEOPLE = ("ana", "ben", "chloe", "dario", "emi", "farid")
PROJECTS = ("image-bot", "weather", "site", "notes", "toolbox")
HISTORY = "import replicate\n\nclient = replicate.Client(api_token={!r})\n"


@dataclass(frozen=True, slots=True)
class Leak:
    """A leak that was caused. `shown` is the token's hint, and `place` where it was published."""

    kind: str
    digest: str
    shown: str
    place: str


class UnknownKind(Exception):
    """There is no such kind of leak. The message is one line that names all."""


class Leaks:
    """Causes leaks, one after another."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._work: dict[str, Workplace] = {}

    def cause(self, kind: str) -> Leak:
        """Publish a fresh token. Raises UnknownKind."""
        if kind not in KINDS:
            raise UnknownKind(f'there is no kind "{kind}": {", ".join(KINDS)}')
        with self._lock:
            number = next(self._numbers)
            person = random.choice(PEOPLE)  # noqa: S311 - it only looks varied
            token = random_token()
            repository = f"{person}/{random.choice(PROJECTS)}"  # noqa: S311 - as above
            digest = self._register(kind, token, person, number)
            place = KINDS[kind].publish(self, repository, token, number)
        return Leak(kind, digest, f"{token[:6]}…{token[-4:]}", place)

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
        """Commit the token and push it."""
        return self._pushed(repository, f"app{number}.py", HISTORY.format(token).encode())

    def removed(self, repository: str, token: str, number: int) -> str:
        """Push two commits at once: one adds the token, the next removes it."""
        work = self._workplace(repository)
        work.write(f"app{number}.py", HISTORY.format(token))
        work.commit("Generate images")
        work.write(f"app{number}.py", "import replicate\n")
        work.commit("Read the token from the environment")
        work.push()
        return f"{repository}, in a commit whose child removes it"

    def archive(self, repository: str, token: str, number: int) -> str:
        """Push a zip archive that holds the token in base64."""
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
        """Publish a gist.

        GitHub has no event for gists, so the service finds them in its list of gists, which it reads once a minute.
        """
        owner = repository.partition("/")[0]
        gist = self._world.github.create_gist({f"example{number}.py": HISTORY.format(token).encode()}, owner)
        return f"gist {gist.id} of {owner}"

    def issue(self, repository: str, token: str, number: int) -> str:
        """Open an issue with the token in its text."""
        self._workplace(repository)
        self._world.github.open_issue(repository, "It does not work", f"I call it with `{token}`", number)
        return f"{repository}, issue {number}"

    def comment(self, repository: str, token: str, number: int) -> str:
        """Comment on an issue with the token in the text."""
        self._workplace(repository)
        self._world.github.comment(repository, f"Try `REPLICATE_API_TOKEN={token} python app.py`", number)
        return f"{repository}, comment on issue {number}"


Publish = Callable[[Leaks, str, str, int], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of leak: how it is published, and what it shows."""

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
    "nobody": Kind(Leaks.push, "a token without a mail address: the operator is told"),
}
