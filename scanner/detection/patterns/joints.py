"""Patterns of tokens whose characters are escaped, or separated by line breaks, quotes and the like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import regex

from scanner.detection.patterns.token_formats import LETTERS_AND_DIGITS, TokenFormat

HEX_ALNUM = rb"(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])"
DECIMAL_ALNUM = rb"(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|90|9[7-9]|1[01][0-9]|12[0-2])"
TAG_ALNUM = rb"(?:\x80[\xb0-\xb9]|\x81[\x81-\x9a\xa1-\xba])"
OCTAL_ALNUM = rb"(?:06[0-7]|07[01]|1(?:0[1-7]|[12][0-7]|3[0-2]|4[1-7]|[56][0-7]|7[0-2]))"

_ZERO_WIDTH = (
    rb"\xe2\x80[\x8b-\x8f]|\xe2\x81[\xa0-\xa4]|\xef\xbb\xbf|\xc2\xad"
    rb"|\xcd\x8f|\xef\xb8[\x80-\x8f]"
    rb"|&(?:shy|ZeroWidthSpace|zwnj|zwj|\#8203|\#x200[bB]);|\\+u200[bBcCdD]|\\+ufeff|\\+u00ad"
)
# Terminal control sequences (ECMA-48), such as colours and links. The escape character is raw, escaped, or `^[`. Some
# logs have only the rest of a colour (`[0m`).
_ESCAPE_SEQUENCE = (
    rb"(?:\x1b|\\+(?:u001[bB]|x1[bB]|e|0?33)|\^\[|\xe2\x90\x9b)"
    rb"(?:\[[0-9:;?]{0,40}+[A-Za-z]|\([0AB]|\][^\x07\x1b\\\n]{0,300}+(?:\x07|\x1b\\|\\+u0007|\\+u001[bB]\\+))"
    rb"|\[[0-9;]{1,12}+m"
)
# Markup that may stand inside a word: comments, and tags such as `<b>`.
INLINE_TAG = (
    rb"<(?:/?(?:[a-z]{1,12}:)?(?:a|b|i|u|s|em|strong|span|mark|font|code|tt|kbd|small|big|ins|del|sub|sup|bdi|tspan|t|r"
    rb"|rPr|wbr|br|text|samp|var|cite|q|nobr|strike|del|label|hi|emphasis|highlight)(?=[\s>/])|!--)[^<>]{0,300}+>"
    # Tags inside a word with escaped angle brackets, in JSON (`\u003c`) or in HTML (`&lt;`).
    rb"|\\+u003[cC]/?(?:b|i|u|s|em|strong|span|mark|code|font|var|kbd|tt|small|sub|sup|w?br)(?![0-9A-Za-z])"
    rb"(?:[^<>\\\n]|\\+(?!u003)){0,200}+\\+u003[eE]"
    rb"|&lt;/?(?:b|i|em|strong|span|mark|code|font)(?![0-9A-Za-z])[^<>\n]{0,200}?&gt;"
)
_NEXT_CDATA = rb"\]\]>\s{0,80}+<!\[CDATA\["
# The bytes between two lines of `curl --trace-ascii`, which include an offset.
_NEXT_OF_TRACE = rb"\r?\n[0-9a-f]{4}:\ "
_RTF_RUN = (
    rb"\}[\r\n\ ]{0,4}+\{(?:\\[a-z]{1,32}+-?[0-9]{0,10}+[ ]?){0,20}+"
    rb"|(?:\\(?:b|i|ul|ulnone|strike|cf|cb|highlight|lang|f|fs|plain|noproof)(?![a-z])-?[0-9]{0,5}+"
    rb"(?:[ ]|(?=\\))){1,9}+"
)
# The bytes between two parts of an answer in the stream protocol of the AI SDK.
_NEXT_PART = rb"\\*\"\r?\n[0-9a-g]:\\*\""
# The bytes between two events of a terminal recording (asciicast version 2).
_NEXT_EVENT = rb"\\*\"\]\r?\n\[[0-9.]{1,24}+,[ ]?\\*\"[io]\\*\",[ ]?\\*\""
# Where a terminal wraps a line, it writes the next letter (or a space), a carriage return, and then the letter again.
_TERMINAL_WRAP = rb"(?P<again>[0-9A-Za-z])\r(?=(?P=again))|\ (?:\r|\\++r)(?=[0-9A-Za-z])"
# The vertical border of a table or a box: `|`, `│` or `┃`.
_BORDER = rb"(?:\||\xe2\x94[\x82\x83])"
_NEXT_CELL = (
    rb"(?:[\ \t]{0,200}+%(border)s){1,4}+[\ \t]*+\r?\n[\ \t]*+%(border)s(?:[\ \t]{0,40}+%(border)s){0,8}+[\ \t]{0,40}+"
) % {b"border": _BORDER}
# psql wraps a long cell with a dot or an ellipsis at the end of a line and at the beginning of the next one.
_PSQL_MARK = rb"(?:\.|\xe2\x80\xa6)"
_NEXT_OF_PSQL = _PSQL_MARK + rb"(?:[ ]{0,2}\|[^|\n]{0,80}+){0,4}+\r?\n(?:[^|.\n]{0,80}+\|){0,4}+[ ]?" + _PSQL_MARK
# Marks that may stand inside a word in TeX, troff and PostScript, such as a place where the line may be broken.
_BREAK_POINT = (
    rb"\\+(?:-|[:&%](?=[0-9A-Za-z_])|f(?:[BIRP1-4]|\(?[BC][BIRW])|(?:allowbreak|linebreak|discretionary|hspace|penalty0|breakhere|seqbreak)(?![a-z])"
    rb"(?:\[[0-9]\]|\{[0-9a-z]{0,9}\}){0,3}+[ ]?+)"
    rb"|\}\s{0,2}+\\+[A-Za-z]{1,20}+\*?\{|[|!+/@]\s{0,2}+\\+verb\*?[|!+/@]"
    rb"|\)[ ]{0,2}-?[0-9.]{1,8}[ ]{0,2}\("
)
# The end of a chunk of an HTTP body, and the length of the next chunk.
_NEXT_CHUNK = rb"\r\n[0-9A-Fa-f]{1,4}+(?:;[^\r\n]{0,80}+)?+\r\n"
# In COBOL's fixed format, a hyphen in column seven continues a string from the line before.
_COBOL_LINE = rb"[\"']?\r?\n[ 0-9]{6}-[ ]{1,60}+[\"']"
# The time that logs of workflows and containers write at the beginning of each line.
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}Z[ ]"
# The length bytes between two pieces of a text, as in GIF, Cap'n Proto and Excel 97.
_LENGTH_BYTE = rb"(?:[\x01-\x08\x0e-\x1a]|\x3c\x00(?s:.){2}[\x00\x01])(?=[0-9A-Za-z_])"
_NEXT_ENCODED_WORD = rb"\?=\s{1,4}+=\?[0-9A-Za-z-]{1,40}+\?[BbQq]\?"
# The characters that may separate two parts of a token. In Visual Basic, an underscore continues the line.
_GLUE = rb"(?:[\s+.&,~|()<>\[\]{}$]|_(?=[ \t]*+\r?\n)|\\+[nrt]?)"
JOINT = rb"""
    (?: %(zero)s
      | \\+(?:x00|u0000)(?![0-9A-Fa-f]{2})
      | =\r?\n
      | (?:\\+[rn])++(?:[ \t]*+)
      | \\\r?\n[ \t]*+\\?+ | \\z\s{1,80}+
      | %(escape)s | %(tag)s | %(cdata)s | %(rtf)s | %(event)s | %(cell)s | %(word)s
      | ["'`]\]?\} | %(length)s
      | %(trace)s | %(part)s | %(cobol)s
      | %(break)s | %(psql)s | \*{1,3}+ | \+\+
      | %(chunk)s | [ ]?\r?\n(?:%(time)s|[ \t]*+(?:(?:[>#*|+;-]|//|--)[ \t]*+)?+)
      | \\*+["'`](?:(?:%(glue)s{1,120}+(?:[bBuUrRfFL]{1,2}(?=\\*+["'`]))?+)?+\\*+["'`]){1,4}+
      | ["'](?=[0-9A-Za-z])
    )""" % {
    b"zero": _ZERO_WIDTH,
    b"glue": _GLUE,
    b"escape": _ESCAPE_SEQUENCE,
    b"tag": INLINE_TAG,
    b"cdata": _NEXT_CDATA,
    b"trace": _NEXT_OF_TRACE,
    b"rtf": _RTF_RUN,
    b"event": _NEXT_EVENT,
    b"cell": _NEXT_CELL,
    b"word": _NEXT_ENCODED_WORD,
    b"length": _LENGTH_BYTE,
    b"part": _NEXT_PART,
    b"cobol": _COBOL_LINE,
    b"psql": _NEXT_OF_PSQL,
    b"chunk": _NEXT_CHUNK,
    b"break": _BREAK_POINT,
    b"time": _TIME,
}
"""A pattern of the characters that may separate two letters of one token, for example a line break or `" + "`."""


def _escaped(hexadecimal: bytes, decimal: bytes, octal: bytes, tag: bytes) -> bytes:
    """Return a pattern of every escape sequence for one letter, made from its codes."""
    return rb"""(?:
        %%(?:25)*+ (?:u00)?+ %(hex)s | = %(hex)s
      | \\+x(?:00)?+ %(hex)s | \\+u++00 %(hex)s | (?:\\+[ux]|`u)\{0*+ %(hex)s \} | \\+U(?:0000)?00 %(hex)s
      | \\+ %(oct)s | \\+o(?:%(oct)s|\{0*+ %(oct)s \})
      | \\+N\{U\+0*+ %(hex)s \} | \\+(?:00){1,2}+ %(hex)s [ ]?+ | \\+' %(hex)s
      | _x00 %(hex)s _ | %(tag)s
      | &(?:amp;)*+\#[xX]0*+ %(hex)s ;?+ | &(?:amp;)*+\#0*+ %(dec)s (?![0-9]);?+
    )""" % {
        b"hex": hexadecimal,
        b"dec": decimal,
        b"oct": octal,
        b"tag": rb"\xf3\xa0" + tag,
    }


JOINTS = rb"(?:(?P<joint>" + _TERMINAL_WRAP + rb")|(?![0-9A-Za-z])(?P<joint>" + JOINT + rb")){0,5}+"
CALLED_JOINTS = rb"(?:(?![0-9A-Za-z](?!\r))(?&joints))?+"
"""A reference to the group in JOINTS_DEFINITION. It matches the same text as JOINTS, and compiles faster."""
# In base64, a line of four hexadecimal digits is a part of the text, not the length of an HTTP chunk. Shells and YAML
# replace line breaks by spaces.
_JOINTS_OF_BASE64 = JOINTS.replace(_NEXT_CHUNK, rb"[ ](?=[0-9A-Za-z+/_-])")
JOINTS_DEFINITION = rb"(?(DEFINE)(?P<joints>" + _JOINTS_OF_BASE64 + rb"))"
# JOINTS skips a hyphen at the beginning of a line, as in a list. This pattern does not, for tokens with hyphens.
_JOINTS_WITHOUT_HYPHEN = JOINTS.replace(rb"[>#*|+;-]|//|--", rb"[>#*|+;]|//").replace(rb"(?:-|[:&%]", rb"(?:[:&%]")


# Escaped underscores, for example in Markdown, HTML, LaTeX and CSS, or between two literals as in `"r8" & Chr(95) &
# "…"`.
_NAMED_UNDERSCORE = (
    rb"\{?+\\+_\}?+|\{underscore\}|&(?:amp;)*+(?:lowbar|UnderBar);|\\+N\{(?i:LOW[ ]LINE|SPACING[ ]UNDERSCORE)\}"
    rb"|\{?+\\+textunderscore(?:\{\}|\}|\\?[ ])?+|\\+(?:string|detokenize\{)_\}?+"
    rb"|\\+char(?:95|\"5F|'137|`\\_)(?:\{\}|[ ])?+"
    rb"|\\+0?95(?![0-9])|\\+0{0,4}5[fF][ ]?+|\^\^5f|\\+u95\\*+(?:\?|'5f)"
    rb"|\\+(?:\(ul|\[u005F\])"
    rb"|\$\((?:\[(?i:char)\][ ]?(?:95|0x5[fF])|printf[ ][\"']\\+(?:x5[fF]|0?137)[\"'])\)|\$'\\(?:x5[fF]|137|u005[fF])'"
    rb"|\$\{[\"']_[\"']\}|\$\{(?:String\.fromCharCode\((?:95|0x5[fF])\)|95\.toChar\(\))\}"
    rb"|[+&]AF8-?+|`_"
    rb"|\\*+[\"'`][ ]?(?:[.+&|,~]{1,2}[ ]?)?+(?:[A-Za-z][A-Za-z.]{1,22}\$?\((?:95|(?:0x|&[hH])5[fF])\)"
    rb"|\[(?i:char)\][ ]?(?:95|0x5[fF])|\#(?:95|\$5[fF])|\((?:string[ ])?\#\\_\))[ ]?(?:[.+&|,~]{1,2}[ ]?)?+\\*+[\"'`]"
)
_IS_NAMED_UNDERSCORE = regex.compile(_NAMED_UNDERSCORE)


def units_expression(form: TokenFormat) -> bytes:
    """Return a pattern of a token whose characters may be escaped, and separated by line breaks, quotes and the like.

    The pattern is for `regex.VERBOSE`, and also matches strings that are no tokens. The group `unit` captures each
    character.
    """
    joints = _JOINTS_WITHOUT_HYPHEN if "-" in form.prefix + form.alphabet else JOINTS
    prefix = joints.join(rb"(?P<unit>" + _written(letter) + rb")" for letter in form.prefix)
    others = _other_letters(form)
    plain = rb"[0-9A-Za-z" + others.encode() + rb"]"
    written = (
        plain
        + rb"|"
        + _escaped(*body_codes(form), _alternatives(TAG_ALNUM, map(_tag_code, others)))
        + (rb"|\\+[_-]" if others else b"")
    )
    # Do not require all characters (`{37}`), because `regex` would compile a copy for each of them, which takes 7 MB.
    return prefix + rb"[\ ]{0,2}+(?:" + joints + rb"(?P<unit>" + written + rb")){0,%d}+" % form.body_length


def body_codes(form: TokenFormat) -> tuple[bytes, bytes, bytes]:
    """Return three patterns for the code of a letter or digit: in hexadecimal, decimal and octal digits."""
    others = _other_letters(form)
    return (
        _alternatives(HEX_ALNUM, map(hex_code, others)),
        _alternatives(DECIMAL_ALNUM, map(decimal_code, others)),
        _alternatives(OCTAL_ALNUM, map(_octal_code, others)),
    )


def _other_letters(form: TokenFormat) -> str:
    """Return the characters of a format's alphabet that are neither letters nor digits."""
    return "".join(letter for letter in form.alphabet if letter not in LETTERS_AND_DIGITS)


def hex_code(letter: str) -> bytes:
    """Return a pattern that matches a character's code in hexadecimal digits, in upper or lower case."""
    return b"".join(
        b"[%c%c]" % (digit, digit - 32) if digit > 0x60 else b"%c" % digit for digit in b"%02x" % ord(letter)
    )


def decimal_code(letter: str) -> bytes:
    """Return a character's code in decimal digits."""
    return b"%d" % ord(letter)


def _octal_code(letter: str) -> bytes:
    digits = b"%o" % ord(letter)
    return digits if len(digits) == 3 else b"0?" + digits


def _tag_code(letter: str) -> bytes:
    """Return a pattern of the last two UTF-8 bytes of a letter's tag character (U+E0000 to U+E007F)."""
    return rb"\x%02x\x%02x" % (0x80 | ord(letter) >> 6, 0x80 | ord(letter) & 0x3F)


def decimal_units_expression(form: TokenFormat) -> bytes:
    """Return a pattern that matches a token with decimal escapes, as in Lua."""
    prefix = b"".join(
        rb"(?P<unit>%c|\\++(?:%03d|%d(?![0-9])))" % (ord(letter), ord(letter), ord(letter)) for letter in form.prefix
    )
    body = form.character_class.encode() + rb"|\\++(?:[0-9]{3}|[0-9]{1,2}(?![0-9]))"
    return prefix + rb"(?:(?P<unit>" + body + rb")){%d}" % form.body_length


def _written(letter: str) -> bytes:
    """Return a pattern of one character of a prefix, plain or escaped."""
    # An underscore that begins the escape sequence `_x005F_` is no plain underscore.
    plain = letter.encode() + (rb"(?!x005[fF]_)" if letter == "_" else b"")
    written = plain + rb"|" + _escaped(hex_code(letter), decimal_code(letter), _octal_code(letter), _tag_code(letter))
    return written + {"_": rb"|" + _NAMED_UNDERSCORE, "-": rb"|\\+-"}.get(letter, b"")


def _alternatives(pattern: bytes, others: Iterable[bytes]) -> bytes:
    more = b"|".join(others)
    return rb"(?:" + pattern + rb"|" + more + rb")" if more else pattern


_OCTAL_DIGITS = regex.compile(rb"[0-7]{1,3}")


def unit_value(unit: bytes) -> int:
    """Return the ASCII code of a letter that is plain or an escape sequence."""
    if len(unit) == 1:
        return unit[0]
    if unit[0] == 0xF3:  # a tag character: its last seven bits are the ASCII code
        return (unit[2] & 1) << 6 | unit[3] & 0x3F
    if _IS_NAMED_UNDERSCORE.fullmatch(unit):
        return ord("_")
    if unit[0] == ord("&"):
        number = unit[unit.rindex(b"#") + 1 :].rstrip(b";")
        return int(number[1:], 16) if number[:1] in b"xX" else int(number)
    body = unit.strip(b"\\_;{} ")
    if body == b"-":
        return ord("-")
    if unit[0] == ord("\\") and (body[0] == ord("o") or _OCTAL_DIGITS.fullmatch(body)):
        return int(body.lstrip(b"o{"), 8)
    return int(body[-2:], 16)


UnitKind = Literal[
    "percent",
    "quoted-printable",
    "html-entity",
    "hex-escape",
    "unicode-escape",
    "octal-escape",
    "decimal-escape",
    "clixml",
    "css-escape",
    "rtf-escape",
    "tag-characters",
    "named-character",
    "backslash",
]


def unit_kind(unit: bytes) -> UnitKind:
    """Return the kind of an escape sequence of at least two bytes."""
    if unit[0] == ord("%"):
        return "percent"
    if unit[0] == ord("="):
        return "quoted-printable"
    if unit[0] == ord("&"):
        return "named-character" if unit.startswith(b"&AF8") else "html-entity"
    if unit[0] == 0xF3:
        return "tag-characters"
    if unit[0] == ord("_"):
        return "clixml"
    body = unit.lstrip(b"\\")
    if body in (b"95", b"095"):
        return "decimal-escape"
    if body in (b"_", b"-", b"`_"):
        return "backslash"
    if body[:1] == b"x":
        return "hex-escape"
    if body[:1] in (b"u", b"U", b"`") and body[:3] != b"u95":
        return "unicode-escape"
    if body[:1] in (b"'", b"u"):
        return "rtf-escape"
    if body[:1] == b"o" or _OCTAL_DIGITS.fullmatch(body):
        return "octal-escape"
    return "css-escape" if body[:1].isdigit() else "named-character"


_STARTS_SEQUENCE = regex.compile(
    rb"\x1b|\\+(?:u001[bB]|x1[bB]|e|0?33)|[ ]\\+r$|\^\[|\xe2\x90\x9b|\[[0-9;]+m$|\\*\"\]\r?\n\["
)
_IS_MARKUP = regex.compile(rb"<[^\0]|[})\]*+]|&lt;|\\+(?:u003[cC]|[b-df-mo-qs-tvwy])|[|!/@]\s*\\+verb")
_IS_CHUNK = regex.compile(_NEXT_CHUNK)
JointKind = Literal[
    "utf-16",
    "zero-width",
    "quoted-printable",
    "continuation",
    "concatenation",
    "markup",
    "terminal",
    "encoded-word",
    "length",
    "wrapped",
]


def joint_kind(joint: bytes) -> JointKind:
    """Return the kind of the bytes between two letters of a token, such as a line break."""
    if joint.lstrip(b"\\")[:5] in (b"x00", b"u0000"):
        return "utf-16"
    if joint[0] == ord("="):
        return "quoted-printable"
    if _IS_MARKUP.match(joint) is not None:
        return "markup"
    if joint[-1:] == b"\r" or _STARTS_SEQUENCE.match(joint) is not None:
        return "terminal"
    has_length = (joint[0] < 0x1B and joint[0] not in b"\t\n\r") or (joint[0] == 0x3C and joint[1] == 0)
    if has_length or _IS_CHUNK.fullmatch(joint) is not None:
        return "length"
    if joint[:2] == b"?=":
        return "encoded-word"
    if joint[0] == ord("\\") and joint.lstrip(b"\\")[:1] in b"-:&%az\r\n":
        return "continuation"
    if joint[0] in b".\xe2" and b"|" in joint:
        return "wrapped"
    if joint[0] >= 0x80 or joint[0] == ord("&") or joint.lstrip(b"\\")[:1] == b"u":
        return "zero-width"
    if any(quote in joint for quote in (b'"', b"'", b"`")):
        return "concatenation"
    return "wrapped"
