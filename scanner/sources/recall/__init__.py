"""Measures each source's recall: the share of all public pushes that the source sees."""
