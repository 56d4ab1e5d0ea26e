"""When a source is polled: whose turn it is, what a poll came to, and when what failed is tried again."""
