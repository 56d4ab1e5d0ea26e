"""The state of the service. One function reads it for the status command, the console and the metrics."""
