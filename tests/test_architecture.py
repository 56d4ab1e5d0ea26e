"""The house keeps its order: arrows go only downwards, detection is pure, and only the workers know Celery."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each room and the rooms that it may lean on.
MAY_IMPORT = {
    "scanner.child_processes": set(),
    "scanner.git_children": {"scanner.child_processes"},
    "scanner.detection": {"scanner.child_processes", "scanner.git_children"},
    "scanner.isolation": {"scanner.child_processes", "scanner.detection"},
    "scanner.permalinks": set(),
    "scanner.retries": set(),
    "scanner.github": {
        "scanner.child_processes",
        "scanner.git_children",
        "scanner.permalinks",
        "scanner.retries",
    },
    "scanner.private_folders": set(),
    "scanner.records": {"scanner.private_folders"},
    "scanner.settings": {"scanner.detection", "scanner.private_folders", "scanner.records"},
    "scanner.tokens": {"scanner.detection", "scanner.records", "scanner.retries"},
    "scanner.response": {"scanner.detection", "scanner.records", "scanner.tokens"},
    "scanner.compromise": {
        "scanner.detection",
        "scanner.permalinks",
        "scanner.records",
        "scanner.response",
        "scanner.settings",
        "scanner.tokens",
    },
    "scanner.sources": {
        "scanner.detection",
        "scanner.github",
        "scanner.records",
        "scanner.response",
        "scanner.settings",
        "scanner.tokens",
    },
    "notifications": {"scanner.detection", "scanner.permalinks", "scanner.records", "scanner.settings"},
    "workers": {
        "notifications",
        "scanner.child_processes",
        "scanner.detection",
        "scanner.github",
        "scanner.isolation",
        "scanner.private_folders",
        "scanner.records",
        "scanner.response",
        "scanner.settings",
        "scanner.compromise",
        "scanner.sources",
        "scanner.tokens",
    },
}
TOP_LEVEL = {
    *(".ci", ".dockerignore", ".editorconfig", ".gitignore", ".pre-commit-config.yaml"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "LICENSE", "Makefile", "README.md", "SECURITY.md"),
    *("alembic.ini", "celeryconfig.py"),
    *("docker-compose.yml", "docs", "notifications", "pyproject.toml", "scanner", "tests", "workers"),
    *("requirements.lock", "requirements-dev.lock", "requirements-redis.lock"),
}


def room_of(module: str) -> str | None:
    return next((room for room in MAY_IMPORT if module == room or module.startswith(f"{room}.")), None)


def sources() -> list[Path]:
    return [path for top in ("scanner", "notifications", "workers") for path in sorted((ROOT / top).rglob("*.py"))]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_leans_only_on_rooms_below_its_own(path: Path) -> None:
    own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        return
    used = {room_of(module) for module in imports_of(path)} - {None, own}
    assert used <= MAY_IMPORT[own]
    if own != "workers":
        assert not [module for module in imports_of(path) if module.split(".")[0] in ("celery", "kombu")]


def test_only_these_modules_know_which_kind_of_token_store_there_is() -> None:
    kinds = {"SqlStore", "HttpStore", "TransactionalAccess", "RemoteAccess", "TRANSACTIONAL"}
    asking = {
        str(path.relative_to(ROOT))
        for path in sources()
        if kinds & {name for module in imports_of(path) for name in module.split(".")[-1:]}
    }
    assert asking == {
        "scanner/response/paths.py",  # chooses the way through a response
        "scanner/response/policy.py",  # its default
        "scanner/response/remote.py",  # one of the ways
        "scanner/response/store_access.py",
        "scanner/tokens/conformance.py",
        "workers/context.py",  # makes the store that the settings name
    }


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_top_level_holds_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {line.split("/")[0] for line in listed.splitlines()} <= TOP_LEVEL


def test_lock_files_pin_by_hash_and_name_no_registry() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-redis.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        requirements = [line for line in text.splitlines() if line and line[0].isalpha()]
        assert requirements
        assert all("==" in line and line.endswith("\\") for line in requirements)
