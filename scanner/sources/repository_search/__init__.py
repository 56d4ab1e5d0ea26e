"""The source that searches repositories by the time of their latest push."""
