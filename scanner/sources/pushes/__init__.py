"""Reading of pushes through the git protocol, object by object.

Pushes that are likely to contain a token come first.
"""
