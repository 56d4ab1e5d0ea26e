"""The console's lists of accounts and tokens in r8scan's own token store. They never show a whole token."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from workers.web.console.queries import lists
from workers.web.console.queries.incidents import BadFilter
from workers.web.console.serving import BadRequest, Console, View, without_token

PATH = "/console/tokens"


def routes(console: Console) -> list[Route]:
    """Return the routes of both lists and the search."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/search", console.action(search, for_viewers=True), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the list of tokens, or the list of accounts with their numbers of tokens."""
    values = {name: view.query.get(name, "") for name in ("show", "q", "account", "state")}
    if view.context.settings.token_store_url is not None:
        return view.page("remote_tokens.html", store=view.context.settings.token_store_url)
    with view.reading() as session:
        try:
            if values.get("show") == "accounts":
                accounts = lists.account_list(session, view.query)
                counts = lists.tokens_of(session, accounts.rows)
                return view.page(
                    "accounts.html",
                    listed=accounts,
                    counts=counts,
                    no_tokens=lists.TokenCounts(),
                    values=values,
                    before=view.query.get("before", ""),
                )
            tokens = lists.token_list(session, view.query)
        except BadFilter as err:
            raise BadRequest(str(err)) from None
        before = view.query.get("before", "")
        return view.page(
            "tokens.html", listed=tokens, values=values, states=tuple(lists.TOKEN_CONDITIONS), before=before
        )


def search(view: View) -> Response:
    """Redirect to the list with the form's filter in the URL. A token in the form is replaced by its digest."""
    given = {name: view.form[name] for name in ("q", "account", "state") if view.form.get(name)}
    if "q" in given:
        given["q"] = without_token(view, given["q"])
    return RedirectResponse(f"{PATH}?{urlencode(given)}", 303)
