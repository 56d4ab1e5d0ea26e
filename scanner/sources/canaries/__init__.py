"""Canary tokens: test tokens without an owner, which r8scan plants on a schedule.

r8scan measures how long it takes to find and disable them.
"""
