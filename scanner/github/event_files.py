"""Reads the hourly files of public events from GH Archive.

https://www.gharchive.org: each hour has a file `YYYY-MM-DD-H.json.gz` with one event per line.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import httpx

from scanner import __version__, tls
from scanner.github.client import check_status
from scanner.github.errors import Malformed, Unavailable
from scanner.github.transport import beginning

MAX_LINE_LENGTH = 16 * 1024 * 1024
MAX_FILE_BYTES = 64 * 1024**3
"""Limit of a file's decompressed size. An hour has about 0.5 GB."""
MAX_SECONDS = 3 * 3600.0
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_SLICE = 1 << 20


def file_name(hour: datetime) -> str:
    """Return the name of the file that contains this hour's events."""
    return f"{hour:%Y-%m-%d}-{hour.hour}.json.gz"


@contextmanager
def opened(
    archive_url: str, hour: datetime, clock: Callable[[], float] = time.monotonic
) -> Iterator[Iterator[bytes | None]]:
    """Open the file of one hour, and yield an iterator of its lines. A line that is too long is yielded as None.

    Raises:
        GitHubError: The file cannot be opened. The iterator raises this error if the file cannot be read to its end.
    """
    url = f"{archive_url}/{file_name(hour)}"
    headers = {"User-Agent": f"r8scan/{__version__}", "Accept-Encoding": "identity"}
    try:
        with (
            httpx.Client(verify=tls.trusted(), timeout=TIMEOUT, trust_env=False, headers=headers) as http,
            http.stream("GET", url, follow_redirects=False) as response,
        ):
            if response.status_code >= 300:
                check_status(response, beginning(response), "none")
            yield _lines(_inflated(response.iter_raw(), clock() + MAX_SECONDS, clock))
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"the archive cannot be reached ({type(err).__name__})") from err


def _inflated(chunks: Iterator[bytes], deadline: float, clock: Callable[[], float]) -> Iterator[bytes]:
    """Yield the decompressed content of a gzip file."""
    inflater = zlib.decompressobj(31)
    size = 0
    for chunk in chunks:
        data = chunk
        while data:
            if inflater.eof:
                inflater = zlib.decompressobj(31)
            try:
                part = inflater.decompress(data, _SLICE)
            except zlib.error as err:
                raise Malformed("archive_damaged", "the archive's file is no gzip, or damaged") from err
            size += len(part)
            if size > MAX_FILE_BYTES:
                raise Malformed("archive_over_limit", f"the archive's file holds more than {MAX_FILE_BYTES} bytes")
            if clock() > deadline:
                raise Unavailable("archive_too_slow", f"reading an hour took longer than {MAX_SECONDS:.0f} s")
            if part:
                yield part
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof:
        raise Unavailable("archive_cut_off", "the archive's file was cut off")


def _lines(parts: Iterator[bytes]) -> Iterator[bytes | None]:
    rest = b""
    too_long = False
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield None if too_long or len(line) > MAX_LINE_LENGTH else line
            too_long = False
        if len(rest) > MAX_LINE_LENGTH:
            rest, too_long = b"", True
    if rest or too_long:
        yield None if too_long else rest
