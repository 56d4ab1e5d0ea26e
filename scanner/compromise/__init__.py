"""Signs that a token is compromised, other than a public place: reports, usage rules and proof of possession.

Each sign is recorded as a report. `settling` passes the report to `scanner.response`, which decides on it.
"""
