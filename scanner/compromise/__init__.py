"""Reports of compromised tokens from other evidence than a public leak.

The evidence is a report by a person, unusual usage of the token, or a proof of possession. `settling` passes each
report to `scanner.response`, which decides what to do with the token.
"""
