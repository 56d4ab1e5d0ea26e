"""Patterns for tokens written unit by unit: plain, escaped, interrupted. `encodings` decides what a match means."""

from __future__ import annotations

from typing import Literal

import regex

ALNUM = rb"[0-9A-Za-z]"
HEX_ALNUM = rb"(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])"
DECIMAL_ALNUM = rb"(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|90|9[7-9]|1[01][0-9]|12[0-2])"
OCTAL_ALNUM = rb"(?:06[0-7]|07[01]|1(?:0[1-7]|[12][0-7]|3[0-2]|4[1-7]|[56][0-7]|7[0-2]))"

_ZERO_WIDTH = (
    rb"\xe2\x80[\x8b-\x8f]|\xe2\x81[\xa0-\xa4]|\xef\xbb\xbf|\xc2\xad"
    rb"|&(?:shy|ZeroWidthSpace|zwnj|zwj|\#8203|\#x200[bB]);|\\+u200[bBcCdD]|\\+ufeff|\\+u00ad"
)
# An underscore only where a line is continued by it: between two quotes it is the token's own.
_GLUE = rb"(?:[\s+.&,~|()<>\[\]]|_(?=[ \t]*+\r?\n)|\\+[nrt]?)"
JOINT = rb"""
    (?: %(zero)s
      | \\+(?:x00|u0000)
      | =\r?\n
      | (?:\\+[rn])++(?:[ \t]*+)
      | \\\r?\n[ \t]*+
      | <wbr[ ]?/?>
      | \r?\n[ \t]*+(?:(?:[>#*|+;-]|//|--)[ \t]*+)?+
      | \\*+["'`](?:(?:%(glue)s{1,120}+(?:[bBuUrRfF]{1,2}(?=\\*+["'`]))?+)?+\\*+["'`]){1,4}+
    )""" % {b"zero": _ZERO_WIDTH, b"glue": _GLUE}
"""What may stand between two letters of one token: zero-width characters, the written zeros of UTF-16, soft line breaks
of mail, of editors and inside JSON strings, backslash continuation, and the end of one literal up to the beginning of
the next."""


def _escaped(hexadecimal: bytes, decimal: bytes, octal: bytes) -> bytes:
    return rb"""(?:
        %%(?:25)*+ %(hex)s | = %(hex)s
      | \\+x %(hex)s | \\+u00 %(hex)s | \\+u\{0*+ %(hex)s \} | \\+U000000 %(hex)s | \\+ %(oct)s
      | &(?:amp;)*+\#[xX]0*+ %(hex)s ;?+ | &(?:amp;)*+\#0*+ %(dec)s (?![0-9]);?+
    )""" % {b"hex": hexadecimal, b"dec": decimal, b"oct": octal}


JOINTS = rb"(?:(?![0-9A-Za-z])(?P<joint>" + JOINT + rb")){0,3}+"

TOKEN = regex.compile(rb"r8_" + ALNUM + rb"{37}")

UNITS = regex.compile(
    rb"(?P<unit>r|" + _escaped(rb"72", rb"114", rb"162") + rb")" + JOINTS
    + rb"(?P<unit>8|" + _escaped(rb"38", rb"56", rb"0?70") + rb")" + JOINTS
    + rb"(?P<unit>_|" + _escaped(rb"5[fF]", rb"95", rb"137") + rb"|\\+_|&(?:amp;)*+(?:lowbar|UnderBar);)"
    + rb"(?:" + JOINTS + rb"(?P<unit>" + ALNUM + rb"|" + _escaped(HEX_ALNUM, DECIMAL_ALNUM, OCTAL_ALNUM) + rb")){37}",
    regex.VERBOSE,
)  # fmt: skip
"""A token of which any letter may be escaped, with up to three joints between two letters."""


def unit_value(unit: bytes) -> int:
    """The ASCII code that one unit spells."""
    if len(unit) == 1:
        return unit[0]
    body = unit.rstrip(b";}").lstrip(b"\\")
    if body in (b"_", b"") or unit.endswith((b"lowbar;", b"UnderBar;")):
        return ord("_")
    if unit[0] == ord("&"):
        number = body[body.rindex(b"#") + 1 :]
        return int(number[1:], 16) if number[:1] in b"xX" else int(number)
    if unit[0] == ord("\\") and body[0] not in b"xuU":
        return int(body, 8)
    return int(body[-2:], 16)


UnitKind = Literal[
    "percent", "quoted-printable", "html-entity", "hex-escape", "unicode-escape", "octal-escape", "backslash"
]


def unit_kind(unit: bytes) -> UnitKind:
    """The name of the escape that `unit` (longer than one byte) is written in."""
    if unit[0] == ord("%"):
        return "percent"
    if unit[0] == ord("="):
        return "quoted-printable"
    if unit[0] == ord("&"):
        return "html-entity"
    body = unit.lstrip(b"\\")
    if body[:1] == b"x":
        return "hex-escape"
    if body[:1] in (b"u", b"U"):
        return "unicode-escape"
    return "backslash" if body == b"_" else "octal-escape"


JointKind = Literal["utf-16", "zero-width", "quoted-printable", "continuation", "concatenation", "wrapped"]


def joint_kind(joint: bytes) -> JointKind:
    """The name of what interrupts a token."""
    if joint.lstrip(b"\\")[:5] in (b"x00", b"u0000"):
        return "utf-16"
    if joint[0] == ord("="):
        return "quoted-printable"
    if joint[0] >= 0x80 or joint[0] == ord("&") or joint.lstrip(b"\\")[:1] == b"u":
        return "zero-width"
    if any(quote in joint for quote in (b'"', b"'", b"`")):
        return "concatenation"
    return "continuation" if joint[:2] in (b"\\\n", b"\\\r") else "wrapped"
