"""Makes `github_graphql.graphql` out of GitHub's published GraphQL schema, with only the types that r8scan asks for.

The schema is the file `schema.graphql` of the npm package `@octokit/graphql-schema` (MIT licence, GitHub).

Run: python -m tests.data.trim_github_graphql schema.graphql > tests/data/github_graphql.graphql
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import graphql
from graphql.language import ast

KEPT: dict[str, tuple[str, ...]] = {
    "Query": ("id", "nodes", "rateLimit", "search"),
    "RateLimit": ("cost",),
    "SearchResultItemConnection": ("nodes", "pageInfo", "repositoryCount"),
    "PageInfo": ("endCursor", "hasNextPage"),
    "Node": ("id",),
    "GitObject": ("oid",),
    "Commit": ("id", "oid"),
    "Language": ("id", "name"),
    "Ref": ("id", "name", "target"),
    "Repository": (
        *("createdAt", "databaseId", "defaultBranchRef", "description", "diskUsage", "id", "isEmpty", "isFork"),
        *("nameWithOwner", "primaryLanguage", "pushedAt"),
    ),
}
LICENCE = "# From GitHub's GraphQL schema (npm package @octokit/graphql-schema). MIT License, (c) 2025 GitHub."


def trimmed(text: str) -> str:
    """Return the schema with only the types and fields in KEPT and the types that they need."""
    document = graphql.parse(text, no_location=True)
    kept = [found for one in document.definitions if (found := _trimmed(one)) is not None]
    return LICENCE + "\n\n" + graphql.print_ast(ast.DocumentNode(definitions=tuple(kept))) + "\n"


def _trimmed(node: Any) -> Any:
    name = node.name.value if getattr(node, "name", None) else ""
    is_scalar = isinstance(node, ast.ScalarTypeDefinitionNode) and name in ("DateTime", "GitObjectID")
    if is_scalar or (isinstance(node, ast.EnumTypeDefinitionNode) and name == "SearchType"):
        return _plain(node)
    if isinstance(node, ast.UnionTypeDefinitionNode) and name == "SearchResultItem":
        return _plain(replace(node, types=tuple(one for one in node.types or () if one.name.value in KEPT)))
    if isinstance(node, ast.ObjectTypeDefinitionNode | ast.InterfaceTypeDefinitionNode) and name in KEPT:
        interfaces = tuple(one for one in node.interfaces or () if one.name.value in KEPT)
        fields = tuple(field for field in node.fields or () if field.name.value in KEPT[name])
        return _plain(replace(node, interfaces=interfaces, fields=fields))
    return None


def _plain(node: Any) -> Any:
    """Return a copy of the node without descriptions and directives."""
    parts = {
        name: tuple(_plain(part) for part in listed)
        for name in ("fields", "values", "arguments")
        if (listed := getattr(node, name, None))
    }
    return replace(node, description=None, directives=(), **parts)


if __name__ == "__main__":
    sys.stdout.write(trimmed(Path(sys.argv[1]).read_text(encoding="utf-8")))
