"""Confined processes that open hostile content: the fork server, its readers, and the pool that uses them."""

from scanner.isolation.reader_pool import ReaderPool, ReadersUnavailable, shared_pool

__all__ = ["ReaderPool", "ReadersUnavailable", "shared_pool"]
