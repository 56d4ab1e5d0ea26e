"""Confined processes that open hostile content: readers, the fork server that starts them, and the pool of readers."""

from scanner.isolation.reader_pool import ReaderPool, ReadersUnavailable, shared_pool

__all__ = ["ReaderPool", "ReadersUnavailable", "shared_pool"]
