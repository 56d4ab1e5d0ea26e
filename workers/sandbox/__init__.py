"""A simulated GitHub, a mailbox, a vendor's API and a token store, for demonstrations and tests."""
