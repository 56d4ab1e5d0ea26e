"""Makes `github_openapi.json` out of GitHub's published OpenAPI description: only the operations that r8scan calls.

The description is the file `api.github.com.json` of the npm package `@octokit/openapi` (MIT licence, GitHub and the
Octokit contributors).

Run: python -m tests.data.trim_github_openapi api.github.com.json > tests/data/github_openapi.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OPERATIONS = (
    "GET /events",
    "GET /gists/public",
    "GET /gists/{gist_id}",
    "GET /gists/{gist_id}/comments",
    "GET /repos/{owner}/{repo}",
    "GET /repos/{owner}/{repo}/activity",
    "GET /repos/{owner}/{repo}/comments",
    "GET /repos/{owner}/{repo}/commits/{ref}",
    "GET /repos/{owner}/{repo}/compare/{basehead}",
    "GET /repos/{owner}/{repo}/git/blobs/{file_sha}",
    "GET /repos/{owner}/{repo}/issues",
    "GET /repos/{owner}/{repo}/issues/comments",
    "GET /repos/{owner}/{repo}/pulls",
    "GET /repos/{owner}/{repo}/pulls/comments",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "GET /repos/{owner}/{repo}/releases",
    "GET /search/code",
    "GET /users/{username}/gists",
    "GET /users/{username}/repos",
    "POST /app/installations/{installation_id}/access_tokens",
)
TEXTS = ("description", "summary", "example", "examples", "externalDocs", "title", "tags", "operationId", "deprecated")
LICENCE = (
    "From GitHub's OpenAPI description (npm package @octokit/openapi). MIT License, (c) 2020 Octokit contributors."
)


def trimmed(described: dict[str, Any]) -> dict[str, Any]:
    """Return the operations of OPERATIONS, and all schemas that they refer to."""
    operations: dict[str, Any] = {}
    for name in OPERATIONS:
        method, path = name.split(" ")
        operation = described["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        operations[name] = {
            "parameters": [_plain(_resolved(one, described)) for one in operation.get("parameters", ())],
            "responses": {status: _schema(one, described) for status, one in operation["responses"].items()},
        }
    schemas: dict[str, Any] = {}
    waiting = sorted(_referred(operations))
    while waiting:
        name = waiting.pop()
        if name not in schemas:
            schemas[name] = _plain(described["components"]["schemas"][name])
            waiting += sorted(_referred(schemas[name]))
    version = described["info"]["version"]
    return {"licence": LICENCE, "version": version, "operations": operations, "schemas": dict(sorted(schemas.items()))}


def _schema(response: dict[str, Any], described: dict[str, Any]) -> Any:
    """Return the schema of a response's JSON body, or None if the response has no body."""
    content = _resolved(response, described).get("content", {})
    media = content.get("application/json") or next((content[one] for one in sorted(content)), None)
    return None if media is None or "schema" not in media else _plain(media["schema"])


def _resolved(value: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Return the value to which the `$ref` in `value` points. Return a value without `$ref` unchanged."""
    while "$ref" in value:
        found: Any = described
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def _plain(value: Any, *, is_names: bool = False) -> Any:
    """Return the schema as JSON Schema, without descriptions and examples.

    If `is_names` is true, the keys of `value` are names of properties, so keep all keys.
    """
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {
        # GitHub's alternatives overlap, so a real answer can match several of them. `oneOf` would refuse it.
        ("anyOf" if key == "oneOf" and not is_names else key): _plain(
            part, is_names=key == "properties" and not is_names
        )
        for key, part in value.items()
        if is_names or not (key in TEXTS or key.startswith("x-") or key == "nullable")
    }
    if "$ref" in found and not is_names:
        found["$ref"] = found["$ref"].replace("#/components/schemas/", "#/schemas/")
    return {"anyOf": [found, {"type": "null"}]} if value.get("nullable") is True and not is_names else found


def _referred(value: Any) -> set[str]:
    """Return the names of the schemas that the value refers to."""
    if isinstance(value, list):
        return {name for one in value for name in _referred(one)}
    if not isinstance(value, dict):
        return set()
    reference = value.get("$ref")
    names = {reference.removeprefix("#/schemas/")} if isinstance(reference, str) else set()
    return names | {name for part in value.values() for name in _referred(part)}


if __name__ == "__main__":
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(trimmed(description), separators=(",", ":"), sort_keys=True))
