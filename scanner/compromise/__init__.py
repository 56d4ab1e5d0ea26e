"""Signs of compromise other than a public find: reports, usage rules and proof of possession.

Each of them is recorded as a report, and the response decides on the report.
"""
