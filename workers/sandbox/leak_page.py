"""The web page of `r8scan sandbox`, with buttons that cause leaks and the mails that have arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from workers.sandbox.leaks import KINDS, Leak, UnknownKind
from workers.sandbox.mailbox import Mailbox

OWN_PAGES = (None, "same-origin", "none")
"""The allowed values of the header Sec-Fetch-Site. Programs such as curl do not send it."""
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
    "button{font:inherit;min-width:8rem;margin:.2rem .8rem .2rem 0}form{display:flex;align-items:center}"
)


def application(cause: Callable[[str], Leak], lines: Sequence[str], mailbox: Mailbox, console_url: str) -> Starlette:
    """Return the ASGI application that serves the page.

    Args:
        cause: Causes a leak of the given kind.
        lines: What has happened so far. The page shows these lines below the buttons.
    """

    async def show(request: Request) -> Response:
        del request
        return HTMLResponse(await run_in_threadpool(_page, lines, mailbox, console_url))

    async def leak(request: Request) -> Response:
        if request.headers.get("sec-fetch-site") not in OWN_PAGES:
            return PlainTextResponse("only this page may cause leaks\n", 403)
        try:
            done = await run_in_threadpool(cause, request.path_params["kind"])
        except UnknownKind as err:
            return PlainTextResponse(f"{err}\n", 404)
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/", 303)
        return PlainTextResponse(f"{done.sentence}\n")

    async def mail(request: Request) -> Response:
        messages, number = await run_in_threadpool(lambda: mailbox.messages), int(request.path_params["number"])
        html = messages[number].get_body(("html", "plain")) if number < len(messages) else None
        if html is None:
            return PlainTextResponse("there is no such mail\n", 404)
        kind = "html" if html.get_content_subtype() == "html" else "plain"
        headers = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
        return Response(html.get_content(), media_type=f"text/{kind}", headers=headers)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/leak/{kind}", leak, methods=["POST"]),
            Route("/mails/{number:int}", mail),
        ]
    )


def _page(lines: Sequence[str], mailbox: Mailbox, console_url: str) -> str:
    buttons = "".join(
        f'<form method=post action="/leak/{name}"><button>{name}</button>{escape(kind.summary)}</form>'
        for name, kind in KINDS.items()
    )
    mails = "".join(
        f'<li><a href="/mails/{number}">{escape(str(message["Subject"]))}</a> to {escape(str(message["To"]))}</li>'
        for number, message in reversed(list(enumerate(mailbox.messages)))
    )
    happened = "".join(f"<li>{escape(line)}</li>" for line in reversed(lines))
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content="5"><title>r8scan sandbox'
        f"</title><style>{STYLE}</style><h1>Cause a leak</h1>{buttons}"
        f'<p><a href="{escape(console_url)}">The console</a></p>'
        f"<h2>What happened</h2><ul>{happened}</ul><h2>Mails</h2><ul>{mails}</ul></html>"
    )
