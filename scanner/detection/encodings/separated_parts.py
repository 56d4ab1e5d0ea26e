"""Search for tokens in one string literal or list of words, with separators that the leaking code removes.

Examples: `"r8_Ab-12…".replace("-", "")` and `qw(r8_Ab12 …)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scanner.detection.findings import Finding
from scanner.detection.patterns.token_patterns import TokenPatterns
from scanner.detection.patterns.word_ends import MAX_SEPARATED

_BEFORE, _AFTER = 80, 120
"""How many bytes before and after the token are searched for the call that removes the separators."""
_REST_OF_LITERAL = re.compile(rb"[^\"'`\r\n]{1,%d}(?=[\"'`])" % MAX_SEPARATED)
# The call that removes separators, behind the literal (`.replace(/-/g, "")`) or before it (`str_replace("-", "", "`).
_CALL = (
    rb"(?:replace|replaceAll|split|gsub|sub|tr|delete|translate|remove|replacingOccurrences)!?[( ](?:of: ?)?"
    rb"(?:b?[\"']([^\"'\r\n]{1,16})[\"']|/([^/\r\n]{1,16})/)"
)
_BEHIND = re.compile(rb"[\"'`][^\r\n]{0,60}?" + _CALL)
_AHEAD = re.compile(_CALL + rb",\s?[\"']{2},\s?[\"'`][^\"'`\r\n]{0,20}$")
_WORD_LIST = re.compile(rb"(?:\bqw\s?|%[wW])[(\[{</|!][^)\]}>\r\n]{0,60}$")
_WORDS = re.compile(rb"[0-9A-Za-z_\s-]{1,%d}(?=[)\]}>/|!])" % MAX_SEPARATED)


def separated_parts_at(content: bytes, start: int, patterns: TokenPatterns) -> Iterator[Finding]:
    """Yield the token that begins at offset `start` and is divided by separators that the leaking code removes."""
    before = content[max(0, start - _BEFORE) : start]
    if before[-1:] in b" ([{</|!" and (words := _WORDS.match(content, start)) and _WORD_LIST.search(before):
        yield from _joined(b"".join(words[0].split()), start, words.end(), patterns)
        return
    literal = _REST_OF_LITERAL.match(content, start)
    if literal is None:
        return
    call = _BEHIND.match(content, literal.end(), literal.end() + _AFTER) or _AHEAD.search(before)
    if call is not None:
        separator = (call[1] or call[2]).replace(b"\\", b"").replace(b"%", b"")
        if separator:
            yield from _joined(literal[0].replace(separator, b""), start, literal.end(), patterns)


def _joined(text: bytes, start: int, end: int, patterns: TokenPatterns) -> Iterator[Finding]:
    match = patterns.plain.match(text)
    if match is not None and patterns.form.may_be_body(match[0][len(patterns.form.prefix) :]):
        yield Finding(match[0], start, end, ("split-literal",))
