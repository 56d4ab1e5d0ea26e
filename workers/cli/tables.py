"""Tables that fit the terminal's width without breaking words, so that ids and addresses can be copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

PADDING = 1
"""The number of spaces after each column."""


@dataclass(frozen=True, slots=True)
class FittedTable:
    """A table for terminals of any width.

    Attributes:
        columns: The names of the columns, which may contain line breaks.
        rows: The cells of each row, each as one line of printable text.
        optional: The columns that may be omitted if the table is too wide, in the order in which they are omitted.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table in a layout that fits the terminal's width."""
        del console
        shown = list(range(len(self.columns)))
        for name in (None, *self.optional):
            shown = [number for number in shown if self.columns[number] != name]
            widths = self._widths(shown, options.max_width)
            if widths is not None:
                yield self._grid(shown, widths)
                return
        yield from self._stacked(options.max_width)

    def _widths(self, shown: Sequence[int], width: int) -> list[int] | None:
        """Return the width of each shown column, or None if a word would break."""
        cells = [[self.columns[number], *(row[number] for row in self.rows)] for number in shown]
        widths = [max(_lines(cell) for cell in column) for column in cells]
        least = [max(_longest_word(cell) for cell in column) for column in cells]
        least[0] = widths[0]  # never wrap the first column, which names the rows
        between = 2 * PADDING * len(widths) - 1
        excess = sum(widths) + between - width
        if sum(least) + between > width:
            return None
        while excess > 0:
            widest = max(range(len(widths)), key=lambda index: (widths[index] > least[index], widths[index]))
            widths[widest] -= 1
            excess -= 1
        return widths

    def _grid(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        grid = Table(
            title=Text(self.title, no_wrap=True, overflow="ignore"),  # the title may be wider than the table
            title_justify="left",
            title_style="bold italic",
            header_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, PADDING, 0, 0),
        )
        for number, width in zip(shown, widths, strict=True):
            grid.add_column(self.columns[number], width=width)
        for row in self.rows:
            grid.add_row(*(Text(row[number]) for number in shown))
        return grid

    def _stacked(self, width: int) -> Iterator[Text]:
        """Yield each row as several lines, each with a column's name and a value."""
        names = [" ".join(column.split()) for column in self.columns]
        indent = max(map(len, names)) + 4
        yield Text(self.title, style="bold italic")
        for row in self.rows:
            yield Text(row[0], style="bold")
            for name, value in zip(names[1:], row[1:], strict=True):
                if value not in ("", "-"):
                    lines = _wrapped(value, max(width - indent, 20))
                    text = f"\n{' ' * indent}".join(lines)
                    yield Text(f"  {name:<{indent - 2}}{text}", no_wrap=True, overflow="ignore")


@dataclass(frozen=True, slots=True)
class WrappedLine:
    """A line of text that is wrapped only between words."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the text in lines that fit the terminal's width. Longer words are not broken."""
        del console
        yield Text("\n".join(_wrapped(self.text, options.max_width)), self.style, no_wrap=True, overflow="ignore")


def _lines(text: str) -> int:
    return max(map(len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _wrapped(text: str, width: int) -> list[str]:
    """Split the text into lines of at most `width` characters. A longer word gets its own line."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
