"""The sources of public content, such as GitHub's events, which are polled for tokens.

Each poll stores its jobs, the token candidates (strings that look like tokens) and its read position in one
transaction.
"""
