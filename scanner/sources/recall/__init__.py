"""Measures each source's recall: the share of all public pushes that the source sees.

The pushes that one source sees are compared with those that the other sources see.
"""
