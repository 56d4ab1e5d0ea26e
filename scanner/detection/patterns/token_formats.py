"""The formats of the vendor's tokens. A process sets its formats once, before it scans."""

from __future__ import annotations

import functools
import math
import re
import string
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

DIGITS = frozenset(string.digits.encode())
LETTERS_AND_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
MIN_PREFIX_LENGTH, MAX_PREFIX_LENGTH = 3, 20
"""The minimum and maximum length of a prefix. A shorter one would occur by chance in every file."""
MIN_TOKEN_LENGTH, MAX_TOKEN_LENGTH = 20, 128
"""The minimum and the maximum number of characters of a whole token."""
MIN_BODY_BITS = 64
"""The minimum entropy of the random part of a token in bits. With less, the token could be guessed from its digest."""
MAX_FORMATS = 8
"""The maximum number of token formats. Each one makes the search slower."""
MAX_SETTING_LENGTH = 1000
CHECKSUM_LENGTH = 6
"""CRC-32 in base 62 needs at most six digits."""
MAX_HINT_HEAD, HINT_TAIL, HINT_BODY = 11, 4, 3
"""A hint shows at most 11 characters of the beginning (the prefix and 3 more), and the last 4 characters."""

Checksum = Literal["", "crc32"]

_FORMAT = re.compile(
    r"(?P<prefix>[0-9A-Za-z][0-9A-Za-z_-]*)\[(?P<class>[0-9A-Za-z_-]+)\]\{(?P<length>[0-9]{1,3})\}(?P<checksum>:crc32)?"
)
_RANGE = re.compile(r"(?:([0-9])-([0-9])|([A-Z])-([A-Z])|([a-z])-([a-z])|([0-9A-Za-z_-]))")
_RANGES = (string.digits, string.ascii_uppercase, string.ascii_lowercase)

_RARE = 0.002
"""If fewer than this share of a format's tokens have no digit, a text without a digit is not accepted as a token."""

_Value = TypeVar("_Value")


class FormatError(ValueError):
    """A token format in the settings cannot be used. The message is one line without the setting's name."""


@dataclass(frozen=True, slots=True)
class TokenFormat:
    """A form of token: a constant prefix, and then a body of `body_length` characters from `alphabet`.

    Attributes:
        prefix: Letters, digits, `_` and `-`; begins with a letter or digit.
        alphabet: The characters of the body, in ASCII order, each once.
        body_length: Includes the checksum.
        checksum: Empty, or `crc32` if the last six characters are the CRC-32 of the rest of the body in base 62.
    """

    prefix: str
    alphabet: str
    body_length: int
    checksum: Checksum = ""

    @property
    def length(self) -> int:
        """The number of characters of a whole token."""
        return len(self.prefix) + self.body_length

    @property
    def character_class(self) -> str:
        """The alphabet as a character class of a regular expression, such as `[0-9A-Za-z]`."""
        parts: list[str] = []
        for letters in _RANGES:
            parts += _as_ranges([letter for letter in letters if letter in self.alphabet])
        return "[" + "".join(parts) + "".join(letter for letter in "_-" if letter in self.alphabet) + "]"

    @property
    def expression(self) -> str:
        """A regular expression that matches every token of this format. It does not check the checksum."""
        return f"{re.escape(self.prefix)}{self.character_class}{{{self.body_length}}}"

    @property
    def description(self) -> str:
        """The format in words for a message, such as `r8_ and 37 letters or digits`."""
        if self.alphabet == _DEFAULT_ALPHABET:
            return f"{self.prefix} and {self.body_length} letters or digits"
        return f"{self.prefix} and {self.body_length} of {self.character_class}"

    def __str__(self) -> str:
        """Return the format in the notation of `R8SCAN_TOKEN_FORMATS`."""
        return f"{self.prefix}{self.character_class}{{{self.body_length}}}" + (":crc32" if self.checksum else "")

    def has_checksum(self, token: str) -> bool:
        """Return whether the token has the right checksum. Return True if the format has no checksum."""
        if not self.checksum:
            return True
        body = token[len(self.prefix) :]
        return body[-CHECKSUM_LENGTH:] == _base62(zlib.crc32(body[:-CHECKSUM_LENGTH].encode()))

    def may_contain(self, part: bytes) -> bool:
        """Return whether `part` may be a part of the random characters of a token."""
        if part.translate(None, self.alphabet.encode()):
            return False
        text = part.decode("ascii")
        return all(
            any(map(is_of_case, text)) or not any(map(is_of_case, self.alphabet))
            for is_of_case in (str.isupper, str.islower)
        )

    def may_be_body(self, text: bytes) -> bool:
        """Return whether `text` may be the part of a random token after its prefix. Ordinary words are not accepted."""
        return (
            len(text) == self.body_length
            and self.may_contain(text)
            and (not DIGITS.isdisjoint(text) or not _has_digits(self))
        )

    def invented(self, choose: Callable[[str], str]) -> str:
        """Return an invented token of this format. `choose` returns one character of a string."""
        count = self.body_length - (CHECKSUM_LENGTH if self.checksum else 0)
        body = "".join(choose(self.alphabet) for _ in range(count))
        return self.prefix + body + (_base62(zlib.crc32(body.encode())) if self.checksum else "")


_DEFAULT_ALPHABET = "".join(sorted(LETTERS_AND_DIGITS))
DEFAULT_FORMATS: tuple[TokenFormat, ...] = (TokenFormat("r8_", _DEFAULT_ALPHABET, 37),)


@functools.cache
def _has_digits(form: TokenFormat) -> bool:
    """Return whether nearly every token of this format has a digit after its prefix."""
    others = sum(not letter.isdigit() for letter in form.alphabet)
    return (others / len(form.alphabet)) ** form.body_length < _RARE


def parse_formats(text: str) -> tuple[TokenFormat, ...]:
    """Return the formats in the value of `R8SCAN_TOKEN_FORMATS`, for example `sk_live_[0-9a-zA-Z]{24}`.

    Args:
        text: Formats separated by commas or spaces. The suffix `:crc32` means that the tokens have a checksum.

    Raises:
        FormatError: a format is malformed, repeated or beyond a limit, or there are too many formats.
    """
    if len(text) > MAX_SETTING_LENGTH:
        raise FormatError(f"must be at most {MAX_SETTING_LENGTH} characters")
    written = [part for part in re.split(r"[,\s]+", text) if part]
    if not 1 <= len(written) <= MAX_FORMATS:
        raise FormatError(f"must be 1 to {MAX_FORMATS} formats, separated by commas, such as {DEFAULT_FORMATS[0]}")
    formats = tuple(map(_parse_format, written))
    if len(set(formats)) < len(formats):
        raise FormatError("names one format twice")
    return formats


def _parse_format(text: str) -> TokenFormat:
    match = _FORMAT.fullmatch(text)
    if match is None:
        raise FormatError(f"has a format that is not prefix[class]{{number}}: write it like {DEFAULT_FORMATS[0]}")
    prefix, length = match["prefix"], int(match["length"])
    if not MIN_PREFIX_LENGTH <= len(prefix) <= MAX_PREFIX_LENGTH:
        raise FormatError(f"{prefix[:30]}: the prefix must have {MIN_PREFIX_LENGTH} to {MAX_PREFIX_LENGTH} characters")
    alphabet = _parse_class(prefix, match["class"])
    if not MIN_TOKEN_LENGTH <= len(prefix) + length <= MAX_TOKEN_LENGTH:
        raise FormatError(f"{prefix}: a token must have {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} characters")
    checked = CHECKSUM_LENGTH if match["checksum"] else 0
    if checked and not set(LETTERS_AND_DIGITS) <= set(alphabet):
        raise FormatError(f"{prefix}: a checksum needs the letters and digits [0-9A-Za-z]")
    if (length - checked) * math.log2(len(alphabet)) < MIN_BODY_BITS:
        raise FormatError(f"{prefix}: the body has fewer than 2^{MIN_BODY_BITS} values, so tokens could be guessed")
    return TokenFormat(prefix, alphabet, length, "crc32" if checked else "")


def _parse_class(prefix: str, text: str) -> str:
    letters: list[str] = []
    for match in _RANGE.finditer(text):
        first, last = match[0][0], match[0][-1]
        if first > last:
            raise FormatError(f"{prefix}: {match[0]} is not a range; write it from the lower to the higher character")
        letters += map(chr, range(ord(first), ord(last) + 1))
    if "-" in letters and not (text.startswith("-") or text.endswith("-")):
        raise FormatError(f"{prefix}: ranges lie within 0-9, A-Z or a-z; write a hyphen as the last character")
    if len(set(letters)) < len(letters):
        raise FormatError(f"{prefix}: names one character twice in its brackets")
    return "".join(sorted(letters))


def _as_ranges(letters: list[str]) -> Iterator[str]:
    """Yield the parts of a character class, such as `a-z`, for the given sorted letters."""
    run: list[str] = []
    for letter in [*letters, ""]:
        if run and letter and ord(letter) == ord(run[-1]) + 1:
            run.append(letter)
            continue
        if run:
            yield f"{run[0]}-{run[-1]}" if len(run) > 2 else "".join(run)
        run = [letter]


def _base62(number: int) -> str:
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits = LETTERS_AND_DIGITS[digit] + digits
    return digits


_active = DEFAULT_FORMATS
_derived: list[Callable[[], None]] = []


def active_formats() -> tuple[TokenFormat, ...]:
    """Return the token formats that this process looks for."""
    return _active


def use_formats(formats: Iterable[TokenFormat]) -> None:
    """Set the token formats of this process. Call this before threads scan."""
    # Use a global variable, because every call of `redact()` would otherwise need a further parameter.
    global _active
    wanted = tuple(formats)
    if wanted == _active:
        return
    _active = wanted
    for forget in _derived:
        forget()


def derived_from_formats(function: Callable[[], _Value]) -> Callable[[], _Value]:
    """Cache the function's result until the active token formats change (a decorator)."""
    cached = functools.cache(function)
    _derived.append(cached.cache_clear)
    return cached


@derived_from_formats
def prefixes() -> tuple[str, ...]:
    """Return the constant first characters of each active token format, such as "r8_"."""
    return tuple(form.prefix for form in active_formats())


@derived_from_formats
def min_token_length() -> int:
    """Return the length in bytes of a token of the shortest active format."""
    return min(form.length for form in active_formats())


@derived_from_formats
def max_token_length() -> int:
    """Return the length in bytes of a token of the longest active format."""
    return max(form.length for form in active_formats())


@derived_from_formats
def _expressions() -> tuple[tuple[TokenFormat, re.Pattern[str]], ...]:
    return tuple((form, re.compile(form.expression)) for form in active_formats())


@derived_from_formats
def _have_checksum() -> bool:
    return any(form.checksum for form in active_formats())


def has_right_checksum(token: bytes) -> bool:
    """Return whether the token has the right checksum. Return True if its format has no checksum."""
    return not _have_checksum() or is_token(token.decode("ascii"))


def is_token(text: str) -> bool:
    """Return whether the text is exactly one token, with the right checksum if its format has one."""
    return hint_if_token(text) is not None


def hint_if_token(text: str) -> str | None:
    """Return the shortened token, such as `r8_Ab1…xyz9`, if the text is exactly one token, otherwise None."""
    for form, pattern in _expressions():
        if pattern.fullmatch(text) and form.has_checksum(text):
            return _hint(text, len(form.prefix))
    return None


def mask_plain_tokens(text: str) -> str:
    """Return the text with every token in plain text replaced by its first and last characters."""
    for _, pattern in _expressions():
        text = pattern.sub(lambda match: hint_of(match[0].encode()), text)
    return text


def hint_of(token: bytes) -> str:
    """Return the first and last characters of a token, such as `r8_Ab1…xyz9`."""
    text = token.decode("ascii")
    length = HINT_BODY
    for prefix in _longest_first():
        if text.startswith(prefix):
            length = len(prefix)
            break
    return _hint(text, length)


@derived_from_formats
def _longest_first() -> tuple[str, ...]:
    return tuple(sorted(prefixes(), key=len, reverse=True))


def _hint(text: str, prefix: int) -> str:
    return f"{text[: min(prefix + HINT_BODY, MAX_HINT_HEAD)]}…{text[-HINT_TAIL:]}"


def is_hint(text: str) -> bool:
    """Return whether the text looks like a shortened token (`r8_Ab1…xyz9`) of an active format."""
    for form in active_formats():
        head = min(len(form.prefix) + HINT_BODY, MAX_HINT_HEAD)
        prefix = form.prefix[:head]
        begin, mark, end = text[:head], text[head : head + 1], text[head + 1 :]
        shown = begin[len(prefix) :] + end
        if begin.startswith(prefix) and mark == "…" and len(end) == HINT_TAIL and set(shown) <= set(form.alphabet):
            return True
    return False


def described_formats() -> str:
    """Return the active formats in words, for messages that say what a token is."""
    return " or ".join(form.description for form in active_formats())


def written_formats(formats: Iterable[TokenFormat]) -> str:
    """Return the formats as text that `parse_formats` can read."""
    return ",".join(map(str, formats))
