"""The format of git packs, and the scan of the objects of one pack."""
