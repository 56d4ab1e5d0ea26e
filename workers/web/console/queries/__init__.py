"""The queries of the console. They only read the database, by indexes and keyset pagination.

Every list and every count has a limit. If there is more, the page says so.
"""
