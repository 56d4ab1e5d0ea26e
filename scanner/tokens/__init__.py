"""Token stores: look up which digests are tokens and who owns them, and disable tokens."""
