"""The read model of the console: what pages show, read by indexes and in pages by key. Nothing here writes.

Every list has a limit. Counts stop at a limit too, and say that they did.
"""
