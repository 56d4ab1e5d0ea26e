"""Measurement of each source's recall: the share of public pushes that it sees.

If one source sees a push, the other sources should see it too. Such a push is called a mark.
"""
