"""The colours of mails in light and dark mode, with a contrast of at least 4.5 (WCAG AA)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of mails in light or in dark mode.

    `page`, `card` and `panel` are backgrounds. Text on `page` has the colour `muted`.
    """

    page: str
    card: str
    panel: str
    line: str
    text: str
    muted: str
    accent: str


LIGHT = Palette(
    page="#f1f3f6",
    card="#ffffff",
    panel="#f6f8fa",
    line="#dde2e9",
    text="#1c222b",
    muted="#566070",
    accent="#1d5a9e",
)
DARK = Palette(
    page="#0e1116",
    card="#171c23",
    panel="#1e252e",
    line="#333d4a",
    text="#e6eaf0",
    muted="#a5b0be",
    accent="#8cbcf4",
)
