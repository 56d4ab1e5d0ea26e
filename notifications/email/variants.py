"""Chooses the variant of a mail: the folder of `notifications/templates` with its wording."""

from __future__ import annotations

from scanner.records.states import Cause, Channel, Occasion

_REPOSITORY = {"file", "file_name", "commit", "tag", "ref_name", "repository_description", "wiki_page"}
_GIST = {"gist", "gist_comment"}
_CONVERSATION = {
    *("issue", "issue_comment", "pull_request", "commit_comment", "review", "review_comment", "discussion", "release"),
}


def variant_of(channel: str, occasions: set[str], causes: set[str], kinds: set[str]) -> str:
    """Return the name of the folder with the most specific templates that fit all tokens of a mail.

    Args:
        channel: Whether the mail is for an owner or for the operator.
        occasions: Why the mail reports its incidents, such as "disabled".
        causes: How the tokens were compromised.
        kinds: The kinds of public places in which the tokens were found.
    """
    if channel == Channel.OPERATOR:
        return "operator"
    if occasions == {Occasion.ALREADY_DISABLED}:
        return "already_disabled"
    if causes == {Cause.COMPROMISE_SIGNS}:
        return "compromise_signs"
    for variant, variant_kinds in (
        ("public_repository", _REPOSITORY),
        ("gist", _GIST),
        ("conversation", _CONVERSATION),
    ):
        if kinds and kinds <= variant_kinds and causes == {Cause.PUBLIC_REPOSITORY}:
            return variant
    return "public_place"
