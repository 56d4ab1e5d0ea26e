"""Everything that tells somebody. Reads records, decides nothing."""
