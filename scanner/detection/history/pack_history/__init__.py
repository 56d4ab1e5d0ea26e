"""The pack reader: reads a repository's packs without git, in separate processes. It rebuilds each object once."""
