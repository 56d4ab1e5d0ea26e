"""A small GitHub, a mailbox, a vendor's API and a token store, which run on loopback.

`r8scan demo`, `r8scan sandbox` and the tests use them.
"""
