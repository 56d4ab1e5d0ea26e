"""The reader of a repository's packs without git. Separate processes rebuild each object once."""
