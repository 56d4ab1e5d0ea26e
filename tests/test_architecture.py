"""Tests that each package imports only the packages that it may, and that token detection does no I/O."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "scanner.child_processes": set(),
    "scanner.confinement": {"scanner.child_processes"},
    "scanner.git_children": {"scanner.child_processes"},
    "scanner.detection": {"scanner.child_processes", "scanner.confinement", "scanner.git_children"},
    "scanner.isolation": {"scanner.child_processes", "scanner.confinement", "scanner.detection"},
    "scanner.permalinks": set(),
    "scanner.retries": set(),
    "scanner.tls": set(),
    "scanner.github": {
        "scanner.child_processes",
        "scanner.git_children",
        "scanner.permalinks",
        "scanner.retries",
        "scanner.tls",
    },
    "scanner.private_folders": set(),
    "scanner.records": {"scanner.private_folders"},
    "scanner.settings": {"scanner.detection", "scanner.private_folders", "scanner.records"},
    "scanner.tokens": {"scanner.detection", "scanner.records", "scanner.retries", "scanner.tls"},
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
    "notifications": {
        "scanner.detection",
        "scanner.permalinks",
        "scanner.records",
        "scanner.settings",
        "scanner.tls",
    },
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
        "scanner.tls",
        "scanner.tokens",
    },
}

# For each package in `scanner.detection`: the other packages in `scanner.detection` that it may import. Modules that
# are directly in `scanner.detection` may import all these packages.
MAY_IMPORT_IN_DETECTION = {
    "patterns": set(),
    "git": set(),
    "containers": {"git", "patterns"},
    "encodings": {"containers", "patterns"},
    "history": {"containers", "git", "patterns"},
}


def package_of(module: str) -> str | None:
    return next((package for package in MAY_IMPORT if module == package or module.startswith(f"{package}.")), None)


def sources() -> list[Path]:
    return [path for top in ("scanner", "notifications", "workers") for path in sorted((ROOT / top).rglob("*.py"))]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def test_a_module_imports_only_packages_below_its_own() -> None:
    for path in sources():
        package = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if package is None:
            continue
        used = {package_of(module) for module in imports_of(path)} - {None, package}
        assert used <= MAY_IMPORT[package], path
        if package != "workers":
            assert not [module for module in imports_of(path) if module.split(".")[0] in ("celery", "kombu")], path


def test_a_package_of_detection_imports_only_packages_of_detection_below_its_own() -> None:
    detection = ROOT / "scanner" / "detection"
    assert {path.parent.name for path in detection.glob("*/__init__.py")} == MAY_IMPORT_IN_DETECTION.keys()
    for package, may_import in MAY_IMPORT_IN_DETECTION.items():
        for path in sorted((detection / package).rglob("*.py")):
            parts = [module.split(".") for module in imports_of(path) if module.startswith("scanner.detection.")]
            used = {part[2] for part in parts if part[2] in MAY_IMPORT_IN_DETECTION}
            assert used - {package} <= may_import, path


def test_only_these_modules_know_which_kind_of_token_store_there_is() -> None:
    kinds = {"SqlStore", "HttpStore", "TransactionalAccess", "RemoteAccess", "TRANSACTIONAL"}
    importing = {
        str(path.relative_to(ROOT))
        for path in sources()
        if kinds & {name for module in imports_of(path) for name in module.split(".")[-1:]}
    }
    assert importing == {
        "scanner/response/paths.py",  # this module chooses the code for the kind of token store
        "scanner/response/policy.py",  # this module has the default kind of token store
        "scanner/response/remote.py",  # this module is for token stores behind HTTP
        "scanner/response/store_access.py",
        "scanner/tokens/conformance.py",
        "workers/context.py",  # this module opens the token store that the settings name
    }


def test_every_module_has_a_docstring() -> None:
    assert [path for path in sources() if not ast.get_docstring(parsed(path))] == []


def test_no_packages_depend_on_each_other_in_a_cycle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()  # raises CycleError if there is a cycle


def test_lock_files_pin_by_hash_and_name_no_registry() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-redis.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        requirements = [line for line in text.splitlines() if line and line[0].isalpha()]
        assert requirements
        assert all("==" in line and line.endswith("\\") for line in requirements)
