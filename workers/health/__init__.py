"""The state of the service as values: one function reads it for the status command, the console and the metrics."""
