"""Canary tokens: fresh tokens without an owner, planted on a schedule.

The time from planting to the disable is measured.
"""
