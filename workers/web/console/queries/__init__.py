"""The read model of the console: queries that use indexes and keyset pagination. These modules only read.

Every list has a limit. Counts stop at a limit as well. The page then says that there are more.
"""
