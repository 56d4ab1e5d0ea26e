"""A small GitHub, a mailbox and a vendor's API on loopback: what `r8scan demo` shows and what tests run against."""
