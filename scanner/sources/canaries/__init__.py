"""Canary tokens: fresh tokens without an owner, planted on a schedule.

r8scan measures the time from the planting of a token to its disable.
"""
