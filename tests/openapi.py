"""Compares HTTP requests and responses with GitHub's published OpenAPI description."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from jsonschema import Draft202012Validator, FormatChecker

MAX_PER_PAGE = 100
"""The maximum of the parameter `per_page`:
https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api
"""

# GitHub redirects to this path after a repository was renamed. GitHub's OpenAPI description lacks the path.
_BY_ID = re.compile(r"/repositories/\d+(?=/|$)")

_formats = FormatChecker(())


@_formats.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]  # jsonschema has no types
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_formats.checks("uri")  # type: ignore[untyped-decorator]  # jsonschema has no types
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme)


@dataclass
class Description:
    """GitHub's OpenAPI description.

    `exercised` has the operations that were used. `differences` has a line for each difference from the description.
    """

    content: dict[str, Any]
    exercised: set[tuple[str, int]] = field(default_factory=set)
    differences: list[str] = field(default_factory=list)

    @classmethod
    def published(cls) -> Description:
        path = Path(__file__).parent / "data" / "github_openapi.json"
        return cls(json.loads(path.read_text(encoding="utf-8")))

    @property
    def operations(self) -> set[str]:
        return set(self.content["operations"])

    def judge(self, api_url: str, response: httpx.Response) -> None:
        """Compare a request and its response with the description, and record the differences.

        The caller must have read the response's body.
        """
        request = response.request
        path = _BY_ID.sub("/repos/by/id", urlsplit(str(request.url)).path.removeprefix(urlsplit(api_url).path))
        name = self._operation(request.method, path)
        if name is None:
            self.differences.append(f"{request.method} {path}: there is no such operation")
            return
        self.exercised.add((name, response.status_code))
        operation = self.content["operations"][name]
        declared = {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}
        given = dict(request.url.params)
        for key, value in given.items():
            self._parameter(name, key, value, declared.get(key))
        for key, one in declared.items():
            if one.get("required") and key not in given:
                self.differences.append(f"{name}: {key} is missing")
        self._answer(name, operation, response)

    def schema(self, name: str) -> dict[str, Any]:
        """Return the schema of this name, with all schemas that it refers to."""
        return {"$ref": f"#/schemas/{name}", "schemas": self.content["schemas"]}

    def check(self, what: str, schema: dict[str, Any], value: Any) -> None:
        """Compare the value with the schema. Add a line to `differences` for each difference.

        Each line begins with `what`.
        """
        whole = Draft202012Validator({**schema, "schemas": self.content["schemas"]}, format_checker=_formats)
        for error in whole.iter_errors(value):
            self.differences.append(f"{what}: {error.json_path}: {error.message[:300]}")

    def _operation(self, method: str, path: str) -> str | None:
        """Return the operation for this method and path, or None. Prefer the one with the fewest placeholders."""
        fitting = [
            name
            for name in self.operations
            if name.startswith(f"{method} ") and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", name.split(" ")[1]), path)
        ]
        return min(fitting, key=lambda name: name.count("{"), default=None)

    def _parameter(self, name: str, key: str, value: str, declared: dict[str, Any] | None) -> None:
        if declared is None:
            self.differences.append(f"{name}: knows no parameter {key}")
            return
        schema = declared["schema"]
        plain: Any = int(value) if schema.get("type") == "integer" and value.isdecimal() else value
        self.check(f"{name}?{key}", schema, plain)
        if key == "per_page" and not 1 <= int(value) <= MAX_PER_PAGE:
            self.differences.append(f"{name}: per_page is {value}")

    def _answer(self, name: str, operation: dict[str, Any], response: httpx.Response) -> None:
        status = str(response.status_code)
        if status not in operation["responses"]:
            self.differences.append(f"{name}: there is no answer {status}")
            return
        schema = operation["responses"][status]
        if schema is None or "raw" in response.headers.get("content-type", ""):
            # Ignore raw contents, because the OpenAPI description describes only JSON answers.
            return
        if response.has_redirect_location:
            return  # the client does not read the body of a redirect
        self.check(f"{name} {status}", schema, response.json())
