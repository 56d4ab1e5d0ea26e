"""Processes of their own for opening hostile content: a fork server, confined readers, and the pool that uses them."""

from scanner.isolation.reader_pool import ReaderPool, ReadersUnavailable, shared_pool

__all__ = ["ReaderPool", "ReadersUnavailable", "shared_pool"]
