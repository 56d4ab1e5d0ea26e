"""Canaries: test tokens that r8scan publishes itself, to measure how fast it disables them."""
