"""A JSON parser for untrusted input."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LEVELS = 100
"""Limit of the depth of nested values. Python's parser stops at about 1,000 levels."""
MAX_DIGITS = 1000
"""Limit of the digits of a whole number. Python refuses to convert more than 4,300."""
MAX_BRACKETS = 4_000_000
"""Limit of the brackets in one body. Checking this many takes about two seconds."""

# Matches up to the next bracket outside a string, or to the quote of an unclosed string.
_TO_BRACKET = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}"]|\Z)', re.DOTALL)


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text. Values that Python's parser refuses or that are nested too deeply become null.

    Raises:
        ValueError: The body is not JSON, or it is nested too deeply and has more than MAX_BRACKETS brackets.
    """
    encoding = json.detect_encoding(body)
    try:
        text = body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        text = body.decode(encoding, "replace")
    try:
        return _parsed(text)
    except RecursionError:
        return _parsed(_without_deepest(text))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer with too many digits
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else None)


def _without_deepest(text: str) -> str:
    """Return the JSON text with all values that are nested deeper than MAX_LEVELS replaced by null."""
    kept: list[str] = []
    level, begin = 0, 0
    for count, found in enumerate(_TO_BRACKET.finditer(text)):
        if count > MAX_BRACKETS:
            raise ValueError("the JSON is too deep and too large")
        bracket = found[1]
        if bracket == '"':
            raise ValueError("a string of the JSON is not closed")
        if bracket and bracket in "[{":
            level += 1
            if level == MAX_LEVELS + 1:
                kept += (text[begin : found.start(1)], "null")
        elif bracket:
            level -= 1
            if level == MAX_LEVELS:
                begin = found.end()
    if level:
        raise ValueError("a bracket of the JSON is not closed")
    kept.append(text[begin:])
    return "".join(kept)
