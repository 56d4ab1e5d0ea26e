"""The reader of a repository's packs without git. Separate processes make each object once."""
