"""Readers of git packs (the files in which git stores and sends objects), and the scan of the objects in one pack."""
