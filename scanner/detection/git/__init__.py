"""The format of Git packs, and the scan of one pack that is complete in memory or in a stream."""
