"""Measurement of each source's recall: pushes that one source sees are marks by which the others are measured."""
