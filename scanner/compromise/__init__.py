"""Evidence of compromise other than a public place: reports, usage rules and proof of possession.

Each of them is recorded as a report, and the response decides on the report.
"""
