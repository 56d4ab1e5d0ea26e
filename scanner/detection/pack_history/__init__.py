"""The reader of a repository's packs without git: each object is made once, by processes of its own."""
