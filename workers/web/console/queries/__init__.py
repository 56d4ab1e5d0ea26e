"""The read model of the console: queries that use indexes and keyset pagination. Nothing here writes.

Every list has a limit. Counts stop at a limit too and are then marked as a lower bound.
"""
