"""Reader of SQLite databases. It parses the file itself and runs no SQL.

The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from scanner.detection.containers.members import Container, Member, UnreadableError, shown_name, whole
from scanner.detection.limits import Meter
from scanner.detection.patterns.token_formats import min_token_length

SIGNATURE = b"SQLite format 3\0"

# Search texts in batches of about this many bytes, because each search has a fixed cost.
_BATCH_BYTES = 1 << 20
# How often one overflow page may be read. The limit keeps the work linear if many deleted rows refer to the same page.
_MAX_READS_OF_OVERFLOW_PAGE = 4
_MAX_COLUMNS = 32_767
"""The largest number of columns that SQLite can be compiled for: https://sqlite.org/limits.html#max_column"""

_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_INTERIOR = (_INTERIOR_INDEX, _INTERIOR_TABLE)
_ENCODINGS = {2: "utf-16-le", 3: "utf-16-be"}


class _Value(NamedTuple):
    """A text or blob in a row of a database. A text is converted to UTF-8."""

    is_text: bool
    content: bytes


class _Page(NamedTuple):
    """A b-tree page of a SQLite database file. `start` and `cells` are offsets in the file."""

    kind: int
    start: int
    cells: list[int]
    right_child: int


def sqlite_members(container: Container) -> Iterator[Member]:
    """Yield the texts in the tables of a database, one value per line, including deleted rows.

    A long or binary value is a member of its own.
    """
    database = _Database(whole(container), container.meter)
    owners = database.owners()
    pages_of: dict[str, list[int]] = {}
    for number, owner in owners.items():
        if owner is not None:
            pages_of.setdefault(owner, []).append(number)
    for name, numbers in pages_of.items():
        container.meter.enter()
        yield from _members_of(name, database.values(numbers), container.meter)
    damaged = database.damaged
    free = [number for number in range(1, database.page_count + 1) if number not in owners]
    yield from _members_of("free pages", database.values(free), container.meter)
    indexes = [number for number, owner in owners.items() if owner is None]
    yield from _free_space(database, free, indexes, container.meter)
    if damaged:
        raise UnreadableError("damaged")


def _free_space(database: _Database, free: list[int], indexes: list[int], meter: Meter) -> Iterator[Member]:
    """Yield the bytes of deleted rows of a SQLite database as one member."""
    pieces = [piece for piece in database.remains(free, indexes) if len(piece.strip(b"\0")) >= min_token_length()]
    if not pieces:
        return
    meter.enter()
    meter.take(sum(map(len, pieces)))
    damaged = meter.unread["damaged"]
    # Put a zero byte first, so that the content counts as binary and is searched for compressed data.
    yield Member("free space", b"\0".join((b"", *pieces)))
    # Do not count damaged parts here, because compressed data in deleted rows is often partly overwritten.
    meter.unread["damaged"] = damaged
    meter.unread += type(meter.unread)()


def _members_of(name: str, values: Iterator[_Value], meter: Meter) -> Iterator[Member]:
    gathered: list[bytes] = []
    size = 0
    for value in values:
        if len(value.content) < min_token_length():
            continue
        meter.take(len(value.content))
        if not value.is_text or len(value.content) > _BATCH_BYTES:
            yield Member(name, value.content)
            continue
        gathered.append(value.content)
        size += len(value.content)
        if size > _BATCH_BYTES:
            yield Member(name, b"\n".join(gathered))
            gathered, size = [], 0
    if gathered:
        yield Member(name, b"\n".join(gathered))


class _Database:
    """The pages of a SQLite database file."""

    def __init__(self, content: bytes, meter: Meter) -> None:
        if len(content) < 100:
            raise UnreadableError("damaged")
        size = int.from_bytes(content[16:18], "big")
        self.page_size = 65536 if size == 1 else size
        if self.page_size < 512 or self.page_size & (self.page_size - 1):
            raise UnreadableError("damaged")
        self.usable = self.page_size - content[20]
        if self.usable < 480:
            raise UnreadableError("damaged")
        self.page_count = -(-len(content) // self.page_size)
        declared = int.from_bytes(content[28:32], "big")
        # The header's number of pages is valid only if the last writer also wrote that number (section 1.3.7 of the
        # format).
        is_current = content[24:28] == content[92:96]
        self.damaged = (is_current and declared > self.page_count) or len(content) % self.page_size != 0
        self.encoding = _ENCODINGS.get(int.from_bytes(content[56:60], "big"), "utf-8")
        self.has_pointer_map = content[52:56] != bytes(4)
        self._content = content
        self._meter = meter
        self._reads = bytearray(self.page_count + 1)

    def owners(self) -> dict[int, str | None]:
        """Return the table name of each page number. The name is None for pages of indexes."""
        schema = self._tree(1, ())
        owners: dict[int, str | None] = dict.fromkeys(schema, "sqlite_schema")
        roots: list[tuple[int, str | None]] = []
        for number in schema:
            page = self.page(number)
            for cell in page.cells if page and page.kind == _LEAF_TABLE else ():
                self._meter.enter()
                root = self._schema_row(page.kind if page else 0, cell)
                if root is not None:
                    roots.append(root)
            if len(roots) > self._meter.limits.entries:
                raise UnreadableError("entries")
        for root_page, name in roots:
            if root_page not in owners:
                owners.update(dict.fromkeys(self._tree(root_page, owners), name))
        if self.has_pointer_map:
            for number in range(2, self.page_count + 1, self.usable // 5 + 1):
                owners.setdefault(number, None)
        return owners

    def _tree(self, root: int, others: Collection[int]) -> list[int]:
        """Return the page numbers of a b-tree, without the pages in `others`."""
        numbers: dict[int, None] = {}
        level = [root]
        while level:
            below: list[int] = []
            for number in level:
                if number in others or number in numbers or not 0 < number <= self.page_count:
                    self.damaged = True
                    continue
                numbers[number] = None
                page = self.page(number)
                if page is None:
                    self.damaged = True
                    continue
                if page.kind not in _INTERIOR:
                    continue
                below += [int.from_bytes(self._content[cell : cell + 4], "big") for cell in page.cells]
                below.append(page.right_child)
            level = below
        return list(numbers)

    def _schema_row(self, kind: int, cell: int) -> tuple[int, str | None] | None:
        """Return the root page number and table name in a row of sqlite_schema."""
        columns = self._columns(self._payload(kind, cell)[0])
        if len(columns) < 4:
            return None
        texts = [self._text(content).decode("utf-8", "replace") for _, content in columns[:3]]
        root = int.from_bytes(columns[3][1], "big")
        if root == 0:
            return None
        return root, None if texts[0] == "index" else shown_name(texts[1]) or "table"

    def page(self, number: int) -> _Page | None:
        """Return the b-tree page with this number, or None if the page is not a b-tree page."""
        start = (number - 1) * self.page_size
        header = start + (100 if number == 1 else 0)
        content = self._content
        if header + 12 > len(content):
            return None
        kind = content[header]
        if kind not in (_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE):
            return None
        array = header + (12 if kind in _INTERIOR else 8)
        count = int.from_bytes(content[header + 3 : header + 5], "big")
        if array + 2 * count > start + self.usable:
            return None
        end = min(start + self.usable, len(content))
        cells = [
            start + int.from_bytes(content[at : at + 2], "big") for at in range(array, min(array + 2 * count, end), 2)
        ]
        # A free page may be partly overwritten, so skip rows with invalid offsets.
        cells = [cell for cell in dict.fromkeys(cells) if array + 2 * count <= cell < end - 3]
        return _Page(kind, start, cells, int.from_bytes(content[header + 8 : header + 12], "big"))

    def values(self, numbers: list[int]) -> Iterator[_Value]:
        """Yield the texts and blobs on the given pages, page by page."""
        for number in numbers:
            page = self.page(number)
            self._meter.take(0)
            if page is None or page.kind == _INTERIOR_TABLE:
                continue
            # Stop when the cells (rows) together are larger than the page, because valid cells do not overlap.
            room = self.usable
            self._meter.step(len(page.cells))
            for cell in page.cells:
                payload, on_page = self._payload(page.kind, cell)
                room -= on_page
                if room < 0:
                    self.damaged = True
                    break
                if not _has_long_value(payload):
                    continue
                for serial, content in self._columns(payload):
                    if serial >= 12:
                        is_text = serial % 2 == 1
                        yield _Value(is_text, self._text(content) if is_text else content)

    def remains(self, free: list[int], indexes: list[int]) -> Iterator[bytes]:
        """Yield the unused bytes of each page, and the overflow pages of deleted rows."""
        content = self._content
        for number in indexes:
            index = self.page(number)
            self._meter.step(1)
            for cell in index.cells if index is not None and index.kind in (_INTERIOR_INDEX, _LEAF_INDEX) else ():
                # Reading the cell marks its overflow pages as used, so that they do not count as free.
                self._meter.step(1)
                self._payload(index.kind if index is not None else 0, cell)
        overflow = {number for number in free if not self._reads[number] and self.page(number) is None}
        for number in range(1, self.page_count + 1):
            page = None if number in overflow else self.page(number)
            if page is None:
                continue
            self._meter.step(1)
            header = page.start + (100 if number == 1 else 0)
            array = header + (12 if page.kind in _INTERIOR else 8)
            begin = array + 2 * int.from_bytes(content[header + 3 : header + 5], "big")
            end = page.start + self.usable
            cells = int.from_bytes(content[header + 5 : header + 7], "big") or 65536
            yield content[begin : min(end, page.start + cells)]
            # Free blocks are in ascending order. Each begins with the next block's offset and its own size.
            block = page.start + int.from_bytes(content[header + 1 : header + 3], "big")
            while begin <= block <= end - 4:
                size = int.from_bytes(content[block + 2 : block + 4], "big")
                begin = block + max(size, 4)
                if begin > end:
                    break
                yield content[block + 4 : begin - 4] + self._chain(content[begin - 4 : begin], overflow)
                block = page.start + int.from_bytes(content[block : block + 2], "big")
        for number in sorted(overflow):
            yield self._chain(number.to_bytes(4, "big"), overflow)

    def _chain(self, first: bytes, overflow: set[int]) -> bytes:
        """Return the bytes of a chain of overflow pages, and remove the pages from `overflow`."""
        pieces: list[bytes] = []
        number = int.from_bytes(first, "big")
        while number in overflow:
            overflow.remove(number)
            start = (number - 1) * self.page_size
            pieces.append(self._content[start + 4 : start + self.usable])
            number = int.from_bytes(self._content[start : start + 4], "big")
        self._meter.step(len(pieces))
        return b"".join(pieces) if pieces else first

    def _text(self, content: bytes) -> bytes:
        if self.encoding == "utf-8":
            return content
        return content.decode(self.encoding, "replace").encode("utf-8", "replace")

    def _payload(self, kind: int, cell: int) -> tuple[bytes, int]:
        """Return a cell's whole record, and the number of its bytes on the cell's page."""
        content, usable = self._content, self.usable
        size, at = self._varint(cell + 4 if kind == _INTERIOR_INDEX else cell)
        if kind == _LEAF_TABLE:
            _, at = self._varint(at)
        most = usable - 35 if kind == _LEAF_TABLE else (usable - 12) * 64 // 255 - 23
        if size <= most:
            return content[at : at + size], size
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        pieces = [content[at : at + local]]
        following = int.from_bytes(content[at + local : at + local + 4], "big")
        left = size - local
        while left > 0 and following:
            if following > self.page_count or self._reads[following] >= _MAX_READS_OF_OVERFLOW_PAGE:
                self.damaged = True
                break
            self._reads[following] += 1
            start = (following - 1) * self.page_size
            pieces.append(content[start + 4 : start + min(usable, left + 4)])
            left -= usable - 4
            following = int.from_bytes(content[start : start + 4], "big")
        return b"".join(pieces), local

    def _columns(self, record: bytes) -> list[tuple[int, bytes]]:
        """Return the serial type and the bytes of each column of a record."""
        header_size, at = _varint(record, 0)
        begin = header_size
        columns: list[tuple[int, bytes]] = []
        while at < min(header_size, len(record)) and begin <= len(record):
            serial, at = _varint(record, at)
            size = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[serial] if serial < 12 else (serial - 12) // 2
            columns.append((serial, record[begin : begin + size]))
            begin += size
            if len(columns) >= _MAX_COLUMNS:
                self.damaged = True
                break
        self._meter.step(len(columns))
        return columns

    def _varint(self, at: int) -> tuple[int, int]:
        return _varint(self._content, at)


def _has_long_value(record: bytes) -> bool:
    """Return whether a record's header declares a value at least as long as a token."""
    if len(record) < min_token_length():
        return False
    size, at = _varint(record, 0)
    return max(record[at:size], default=0) >= 12 + 2 * min_token_length()


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length integer at offset `at`, and the offset after it."""
    value = 0
    for _ in range(8):
        if at >= len(data):
            return value, at
        byte = data[at]
        at += 1
        value = (value << 7) | (byte & 127)
        if byte < 128:
            return value, at
    return (value << 8) | (data[at] if at < len(data) else 0), at + 1
