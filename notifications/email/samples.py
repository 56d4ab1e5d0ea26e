"""Invented data for every kind of mail, for previews and tests."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from notifications.email.facts import (
    MAX_SHORT_TOKENS,
    MAX_TOKENS,
    MailFacts,
    PlaceFacts,
    ShortToken,
    TokenFacts,
    UndeliveredMail,
)

_PUBLISHED = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
_SEEN = _PUBLISHED + timedelta(seconds=32)
_DISABLED = _PUBLISHED + timedelta(seconds=33, milliseconds=200)
_COMMIT = "4f2a9c1e0b7733d8a95c6e1f20b4d7a8c3e59b61"
_WEB = "https://github.com"


def samples() -> Iterator[tuple[str, MailFacts]]:
    """Yield the name and the data of every kind of mail. Each name is a valid file name."""
    single = _token(1, "weather-bot", places=(_file(),))
    yield "public-repository", _mail("public_repository", single)
    yield "public-repository-many-places", _mail("public_repository", _widely_spread())
    yield "public-repository-several-tokens", _mail("public_repository", *_three_tokens())
    yield "public-repository-storm", _storm()
    yield "gist", _mail("gist", _token(2, "weather-bot", places=(_gist(),)))
    for kind, path in (("issue", "issues/41"), ("issue_comment", "issues/41#issuecomment-2214")):
        yield kind.replace("_", "-"), _mail("conversation", _token(3, "weather-bot", places=(_text(kind, path),)))
    for kind, path in (
        ("pull_request", "pull/7"),
        ("review_comment", "pull/7#discussion_r118"),
        ("release", "releases/tag/v1.2"),
    ):
        yield kind.replace("_", "-"), _mail("conversation", _token(4, "weather-bot", places=(_text(kind, path),)))
    yield "discussion", _mail("conversation", _token(5, "weather-bot", places=(_text("discussion", "discussions/12"),)))
    yield "package", _mail("public_place", _token(6, "weather-bot", places=(_package(),)))
    yield "compromise-signs", _mail("compromise_signs", _reported(7))
    yield "mixed-causes", _mail("public_place", single, _reported(7))
    yield "already-disabled", _mail("already_disabled", _already_disabled())
    yield "operator-protected", _mail("operator", _for_operator("protected", 8))
    yield "operator-brake-closed", _mail("operator", _by_sign("brake_closed", 16))
    yield "operator-flagged", _mail("operator", _by_sign("flagged", 17))
    yield "operator-observed", _mail("operator", _for_operator("observed", 9))
    yield "operator-undeliverable", _mail("operator", _for_operator("undeliverable", 10))
    everything = [_for_operator(one, 11 + at) for at, one in enumerate(("undeliverable", "observed", "protected"))]
    yield "operator-several", _mail("operator", *everything)


def _mail(
    variant: str, *tokens: TokenFacts, others: tuple[ShortToken, ...] = (), total: int | None = None
) -> MailFacts:
    return MailFacts(
        variant=variant,
        frozen_at=_DISABLED + timedelta(seconds=10),
        tokens=tokens,
        others=others,
        tokens_total=total or len(tokens),
        places_total=sum(token.places_total for token in tokens),
        causes=tuple(sorted({token.cause for token in tokens})),
    )


def _token(number: int, name: str, **values: Any) -> TokenFacts:
    places: tuple[PlaceFacts, ...] = values.get("places", ())
    known: dict[str, Any] = {
        "incident_id": _incident_id(number),
        "occasion": "disabled",
        "name": name,
        "hint": f"r8_Ex{number % 10}…mple",
        "cause": "public_repository",
        "detected_at": _SEEN,
        "account": "acme-weather",
        "disabled_at": _DISABLED,
        "published_at": _PUBLISHED,
        "published_everywhere": True,
        "seen_at": _SEEN,
        "last_used_at": _PUBLISHED - timedelta(hours=5, minutes=17),
        "places_total": len(places),
    }
    return TokenFacts(**{**known, **values})


def _incident_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://sample.invalid/{number}"))


def _file(path: str = "src/config/settings.py", line: int = 12, repository: str = "acme/weather-bot") -> PlaceFacts:
    url = f"{_WEB}/{repository}/blob/{_COMMIT}/{quote(path)}#L{line}"
    return PlaceFacts("file", url, _SEEN, repository, path, _COMMIT, line=line, published_at=_PUBLISHED)


def _widely_spread() -> TokenFacts:
    inside = dataclasses.replace(
        _file("release/app-1.4.0.zip", 3), container="app-1.4.0.zip!/app/.env", encoding="base64", line=0
    )
    message = PlaceFacts(
        *("commit", f"{_WEB}/acme/weather-bot/commit/{_COMMIT}", _SEEN, "acme/weather-bot"), commit=_COMMIT
    )
    forks = tuple(_file("src/config/settings.py", 12, f"{name}/weather-bot") for name in _FORKS)
    return _token(
        *(20, "weather-bot"),
        places=(_file(), inside, message, *forks),
        places_total=35,
        published_everywhere=False,
        last_used_at=_SEEN - timedelta(seconds=11),
    )


_FORKS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "hazel", "islet"),
    *("jetty", "kelp", "larch", "maple", "north", "otter", "poplar", "quartz"),
)


def _three_tokens() -> tuple[TokenFacts, ...]:
    return (
        _token(21, "weather-bot", places=(_file(),)),
        _token(22, "nightly evaluation", places=(_file(".github/workflows/nightly.yml", 31),)),
        _token(23, "", places=(_file("notebooks/Übersicht 2026.ipynb", 204),), last_used_at=None),
    )


def _storm() -> MailFacts:
    tokens = tuple(
        _token(100 + number, f"worker-{number:03}", places=(_file("dump/tokens.csv", number),))
        for number in range(1, MAX_TOKENS + 1)
    )
    others = tuple(
        ShortToken(f"worker-{number:03}", f"r8_Ex{number % 10}…mple", _incident_id(100 + number))
        for number in range(MAX_TOKENS + 1, MAX_TOKENS + MAX_SHORT_TOKENS + 1)
    )
    mail = _mail("public_repository", *tokens, others=others, total=500)
    return dataclasses.replace(mail, places_total=500)


def _gist() -> PlaceFacts:
    url = "https://gist.github.com/acme-dev/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    return PlaceFacts("gist", url, _SEEN, path="try_models.py", line=4, published_at=_PUBLISHED)


def _text(kind: str, path: str) -> PlaceFacts:
    url = f"{_WEB}/acme/weather-bot/{path}"
    return PlaceFacts(kind, url, _SEEN, "acme/weather-bot", line=9, published_at=_PUBLISHED)


def _package() -> PlaceFacts:
    url = "https://www.npmjs.com/package/acme-weather-bot"
    return PlaceFacts("package", url, _SEEN, path="acme-weather-bot 1.4.0: dist/index.js", line=1, encoding="base64")


def _reported(number: int) -> TokenFacts:
    return _token(
        *(number, "batch jobs"),
        cause="compromise_signs",
        published_at=None,
        published_everywhere=False,
        seen_at=None,
        last_used_at=_SEEN - timedelta(minutes=4),
    )


def _already_disabled() -> TokenFacts:
    return _token(
        *(30, "old laptop"),
        occasion="already_disabled",
        disabled_at=_PUBLISHED - timedelta(days=41),
        last_used_at=_PUBLISHED - timedelta(days=60),
        places=(_file("old/run.sh", 2),),
    )


def _for_operator(occasion: str, number: int) -> TokenFacts:
    works = occasion != "undeliverable"
    lost = (
        UndeliveredMail("dev@acme.example", "refused by the server: 550 5.1.1 no such mailbox"),
        UndeliveredMail("ops@acme.example", "bounced: 5.2.2 552 the mailbox is full"),
    )
    return _token(
        *(number, f"{occasion} example"),
        occasion=occasion,
        places=(_file(),),
        disabled_at=None if works else _DISABLED,
        undelivered=() if works else lost,
        undelivered_total=0 if works else len(lost),
        last_used_at=_SEEN + timedelta(seconds=3) if works else None,
    )


def _by_sign(occasion: str, number: int) -> TokenFacts:
    sign = "usage_spread by usage: used from 41 networks and 9 countries within an hour"
    return dataclasses.replace(
        _for_operator(occasion, number),
        cause="compromise_signs",
        places=(),
        places_total=0,
        published_at=None,
        signs=(sign,),
    )
