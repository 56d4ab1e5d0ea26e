"""The processes: what runs when, and the commands that an operator types."""
