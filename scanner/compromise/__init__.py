"""Handles reports of compromised tokens for which there is other evidence than a public leak.

The evidence is a report by a person, unusual usage of the token, or a proof that the reporter has the token. The module
`settling` passes each report to `scanner.response`, which decides what to do with the token.
"""
