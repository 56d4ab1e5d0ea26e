"""Readers of git packs (the files in which git stores and sends objects)."""
