"""Confined processes that open hostile contents, and the pool through which the threads of a service share these
processes.
"""

from scanner.isolation.reader_pool import ReaderPool, ReadersUnavailable, shared_pool

__all__ = ["ReaderPool", "ReadersUnavailable", "shared_pool"]
