"""A simulated GitHub, a mailbox, a vendor's API and a token store, which run on this machine.

`r8scan demo`, `r8scan sandbox` and the tests use them.
"""
