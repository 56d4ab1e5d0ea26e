"""Confined processes that open hostile contents, and a pool of these processes for the threads of a service."""

from scanner.isolation.reader_pool import ReaderPool, ReadersUnavailable, shared_pool

__all__ = ["ReaderPool", "ReadersUnavailable", "shared_pool"]
