"""Tests that a module can be hidden from imports."""

from __future__ import annotations

import importlib
import sys

import pytest

from scanner.absent_modules import absent


@pytest.mark.parametrize("was_imported", [True, False])
def test_a_module_is_absent_only_inside_the_block(was_imported: bool) -> None:
    name = "this"
    sys.modules.pop(name, None)
    if was_imported:
        sys.modules[name] = sys
    with absent(name), pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
    assert (name in sys.modules) is was_imported
    sys.modules.pop(name, None)
