"""Handles reports of compromised tokens that r8scan did not find in public itself.

A report may come from a person, from unusual usage of the token, or from somebody who proves to have the token. The
module `settling` passes each report to `scanner.response`, which decides what to do with the token.
"""
