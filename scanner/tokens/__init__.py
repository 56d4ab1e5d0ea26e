"""Token stores. A token store knows all tokens of the vendor and their owners, and can disable tokens."""
