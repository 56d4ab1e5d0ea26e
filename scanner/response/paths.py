"""Responds to found tokens: one implementation for the SQL token store, and one for a remote token store."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from scanner.detection import Candidate
from scanner.records.database import Database
from scanner.records.states import Cause
from scanner.response import finishing, remote, respond
from scanner.response.policy import Policy
from scanner.response.respond import LookedUp, Response
from scanner.response.store_access import RemoteAccess


class ResponsePath(Protocol):
    """The steps of responding to found tokens that differ between the SQL token store and a remote one."""

    def respond(
        self, database: Database, candidates: Sequence[Candidate], *, source: str, policy: Policy, cause: Cause
    ) -> Response:
        """Look the token candidates up in the token store, disable the real tokens, and record what was done."""

    def look_up_again(self, database: Database, *, policy: Policy, limit: int) -> LookedUp:
        """Look up again at most `limit` of the candidates that the token store did not know.

        Disable the tokens that the store knows now.
        """

    def finish(self, database: Database, ids: Collection[uuid.UUID], *, policy: Policy) -> Response:
        """Disable the tokens of incidents that were just recorded with the state `disabling`."""

    def finish_due(self, database: Database, *, policy: Policy) -> Response:
        """Disable the tokens of incidents that a crash or an outage left in the state `disabling`."""


class TransactionalPath:
    """Looks up and disables tokens of the SQL token store, in a single transaction."""

    def respond(
        self, database: Database, candidates: Sequence[Candidate], *, source: str, policy: Policy, cause: Cause
    ) -> Response:
        return respond.respond(database, candidates, source=source, policy=policy, cause=cause)

    def look_up_again(self, database: Database, *, policy: Policy, limit: int) -> LookedUp:
        return respond.look_up_again(database, policy=policy, limit=limit)

    def finish(self, database: Database, ids: Collection[uuid.UUID], *, policy: Policy) -> Response:
        del database, ids, policy
        return Response()

    def finish_due(self, database: Database, *, policy: Policy) -> Response:
        del database, policy
        return Response()


@dataclass(frozen=True, slots=True)
class RemotePath:
    """Looks up and disables tokens of a remote token store, which is called before and after the transaction."""

    access: RemoteAccess

    def respond(
        self, database: Database, candidates: Sequence[Candidate], *, source: str, policy: Policy, cause: Cause
    ) -> Response:
        return remote.respond_remotely(
            database, candidates, source=source, policy=policy, access=self.access, cause=cause
        )

    def look_up_again(self, database: Database, *, policy: Policy, limit: int) -> LookedUp:
        return remote.look_up_again_remotely(database, policy=policy, access=self.access, limit=limit)

    def finish(self, database: Database, ids: Collection[uuid.UUID], *, policy: Policy) -> Response:
        return finishing.finish(database, policy, self.access.store, ids)

    def finish_due(self, database: Database, *, policy: Policy) -> Response:
        return finishing.finish_due(database, policy, self.access.store)


def path_of(policy: Policy) -> ResponsePath:
    """Return the implementation of the response for the policy's token store."""
    access = policy.access
    return RemotePath(access) if isinstance(access, RemoteAccess) else TransactionalPath()
