"""Measurement of each source's recall.

A push that one source sees is a mark by which the other sources are measured.
"""
