"""Code search, round after round."""
