"""Confined processes that open hostile contents, the fork server that starts them, and the pool that shares them."""

from scanner.isolation.reader_pool import ReaderPool, ReadersUnavailable, shared_pool

__all__ = ["ReaderPool", "ReadersUnavailable", "shared_pool"]
