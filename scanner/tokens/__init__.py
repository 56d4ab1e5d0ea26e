"""Token stores, which know all tokens of the vendor: who owns a token, and how to disable it."""
