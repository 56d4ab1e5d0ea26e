"""The sources of public content, such as GitHub's events, which are polled for tokens.

Each poll stores its jobs, the candidates that it found and its read position in one transaction.
"""
