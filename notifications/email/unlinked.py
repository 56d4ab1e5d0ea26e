"""Changes text so that mail programs do not turn any part of it into a link.

For example, `https://evil.example/x` becomes `hxxps[:]//evil[.]example/x`.
"""

from __future__ import annotations

import re

import regex

_SCHEME = re.compile(r"(?i)(?<![a-z0-9])([a-z][a-z0-9+.-]{0,30}):(?=[/\\]{2})")
_OPAQUE = re.compile(
    r"(?i)(?<![a-z0-9])(mailto|tel|sms|javascript|vbscript|data|file|callto|skype|sip|sips|xmpp|magnet|news|urn|geo|im):"
)
_WEB_SCHEME = re.compile(r"(?i)(?<![a-z0-9])h(tt)ps?(?=\[:\])")
# Matches the first backslash of a network path such as `\\server\share`. Mail programs on Windows turn such a path into
# a link.
_SHARE = re.compile(r"\\(?=\\)")
# Matches a character that mail programs accept in a host name: any except white space, punctuation and some symbols.
_IN_HOST = r"[^\s\p{P}\p{Sm}\p{Sc}\p{Sk}]"
# Matches a dot, or a character that browsers treat as a dot in a host name (UTS 46).
_DOT = regex.compile(rf"(?<={_IN_HOST}|[-_])[.\uff0e\u3002\uff61\u2024](?={_IN_HOST})")
_LABEL = regex.compile(rf"(?:{_IN_HOST}|[-_])+")
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w])")
_PREFIX = re.compile(r"(?i)(?<![\w])(?:www|ftp)$")
_IN_FOLDER = regex.compile(rf"/(?:{_IN_HOST}|[-_])+$")
_HARMLESS_ENDINGS = frozenset(
    (
        *("bak", "bat", "c", "cfg", "class", "conf", "config", "cpp", "cs", "css", "csv", "dart", "env", "ex", "exs"),
        *("go", "gradle", "gz", "h", "hpp", "htm", "html", "ini", "ipynb", "jar", "jpeg", "jpg", "js", "json", "jsonl"),
        *("jsx", "kt", "kts", "less", "lock", "log", "lua", "mdx", "mjs", "npmrc", "parquet", "pdf", "php", "plist"),
        *("png", "pyc", "r", "rb", "rtf", "sample", "sass", "scala", "scss", "sql", "sqlite", "svelte", "tar"),
        *("tfvars", "toml", "ts", "tsv", "tsx", "txt", "vue", "whl", "xls", "xlsx", "xml", "yaml", "yml"),
    )
)
"""Endings of file names that are not top-level domains."""
_HARMLESS_IN_FOLDERS = frozenset({"py"})
"""Endings of file names that are also top-level domains. They are safe only after a slash."""


def unlinked(text: str) -> str:
    """Return the text with brackets wherever a mail program could otherwise make a link."""
    text = _IPV4.sub(lambda match: match[0].replace(".", "[.]"), text)
    text = _OPAQUE.sub(r"\1[:]", _SCHEME.sub(r"\1[:]", text))
    text = _WEB_SCHEME.sub(lambda match: match[0].replace("tt", "xx").replace("TT", "XX"), text)
    text = _SHARE.sub(r"[\\]", text)
    return _DOT.sub(lambda match: match[0] if _is_harmless(text, match) else f"[{match[0]}]", text)


def _is_harmless(text: str, dot: regex.Match[str]) -> bool:
    label = _LABEL.match(text, dot.end())
    assert label is not None  # noqa: S101 - a letter or digit follows
    if _PREFIX.search(text, max(dot.start() - 4, 0), dot.start()):
        return False
    if label[0].isascii() and label[0].isdigit():
        return True
    if dot[0] != "." or _DOT.match(text, label.end()):
        return False
    ending = label[0].lower()
    return ending in _HARMLESS_ENDINGS or (
        ending in _HARMLESS_IN_FOLDERS and bool(_IN_FOLDER.search(text, max(dot.start() - 300, 0), dot.start()))
    )
