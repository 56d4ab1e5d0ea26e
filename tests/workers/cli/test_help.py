"""Tests that the help of every command can be read on narrow terminals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.cli.app import COMMANDS, _loaded, build
from workers.cli.jobs_watched import MAX_JOB

WIDE = 400
PLAIN = {"Arguments", "Commands", "Options", "/"}
"""Words that only the plain help for narrow terminals has."""
Help = Callable[[tuple[str, ...], int], str]


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group, such as ("incidents", "list")."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*words, name))

    yield ()
    for name, entry in COMMANDS.items():
        yield from below(_loaded(entry, name), (name,))


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    """Return a function that returns the help of a command on a terminal with so many columns."""

    def shown(command: tuple[str, ...], columns: int) -> str:
        monkeypatch.setenv("COLUMNS", f"{columns}")
        _loaded.cache_clear()
        assert build()([*command, "--help"], prog_name="r8scan", standalone_mode=False) == 0
        return capsys.readouterr().out

    return shown


def words_of(text: str) -> set[str]:
    """Return the words of a help text, without the lines of its tables, brackets and punctuation."""
    return {word.strip(":;,.") for word in re.sub(r"[─│╭╮╰╯\[\]()<>|]", " ", text).split()} - {""}


@pytest.mark.parametrize("columns", [80, 60])
def test_the_help_of_no_command_breaks_a_word(help_of: Help, columns: int) -> None:
    found = list(commands())
    assert {(), ("incidents", "top"), ("console", "user", "add")} <= set(found)
    for command in found:
        shown = help_of(command, columns)
        assert max(map(len, shown.splitlines())) <= columns
        whole = words_of(help_of(command, WIDE))
        too_long = [word for word in whole if len(word) > columns - 10]
        broken = words_of(shown) - whole - PLAIN
        assert not [word for word in broken if not any(word in one for one in too_long)], command


def test_the_help_shows_no_limit_that_nobody_can_reach(help_of: Help) -> None:
    for command in commands():
        assert f"{MAX_JOB}" not in help_of(command, WIDE), command
