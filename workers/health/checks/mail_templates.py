"""Checks that every kind of mail can be rendered with the operator's own templates."""

from __future__ import annotations

from notifications.email.render import reason_of, render_strictly
from notifications.email.samples import samples
from workers.context import Context
from workers.health.checks.check import Wrong

BUILT_IN_TEMPLATES = "until then, mails have the built-in words"


def check_templates(context: Context) -> str:
    """Render every kind of mail. Return one line about the result.

    Raises:
        Wrong: The folder is missing, or a template fails. Mails are then rendered with the built-in templates.
    """
    folder = context.identity.template_dir
    if folder is None or not folder.is_dir():
        raise Wrong(f"{folder} is not a folder", f"correct R8SCAN_EMAIL_TEMPLATES_DIR; {BUILT_IN_TEMPLATES}")
    number = 0
    for name, facts in samples():
        try:
            render_strictly(facts, context.identity)
        except Exception as err:  # a template may raise anything
            raise Wrong(
                f"the mail {name} cannot be rendered: {reason_of(err)}",
                f"run r8scan email check, and correct the template; {BUILT_IN_TEMPLATES}",
            ) from err
        number += 1
    return f"all {number} kinds of mail can be rendered with the templates in {folder}"
