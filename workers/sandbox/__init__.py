"""A small GitHub, a mailbox, a vendor's API and a token store on loopback, for `r8scan demo` and the tests."""
