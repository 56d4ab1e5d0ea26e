"""Determines the state of the service for the status command, the console and the metrics."""
