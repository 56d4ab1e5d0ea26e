"""Tables that fit the terminal without ever breaking a word, so that ids and addresses can be copied.

A table that is too wide first wraps its cells between words, then leaves out optional columns. If it is still too wide,
each row is printed as lines of name and value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

PADDING = 1
"""Blanks after each column. The box adds one more between two columns."""


@dataclass(frozen=True, slots=True)
class FittedTable:
    """A table for terminals of any width.

    Attributes:
        title: The title above the table.
        columns: The names of the columns. A line break in a name is allowed.
        rows: The cells of each row, each as one line of printable text.
        optional: Columns that are left out if the table is too wide, the least important first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table in the layout that fits the terminal's width. Rich calls this."""
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
        """Return the width in characters of each column in `shown`, or None if they do not fit without breaking a
        word.
        """
        cells = [[self.columns[number], *(row[number] for row in self.rows)] for number in shown]
        widths = [max(_lines(cell) for cell in column) for column in cells]
        least = [max(_longest_word(cell) for cell in column) for column in cells]
        least[0] = widths[0]  # the first column names the row: it is never wrapped
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
            title=self.title,
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
        """Yield each row as lines of name and value. Empty values are left out."""
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


def _lines(text: str) -> int:
    return max(map(len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the text as lines of at most `width` characters; a longer word has a line of its own."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
