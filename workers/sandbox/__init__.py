"""A small GitHub, a mailbox, a vendor's API and a token store on loopback.

They are for `r8scan demo`, `r8scan sandbox` and the tests.
"""
