"""Token stores, which know all tokens of the vendor and their owners, and can disable tokens."""
