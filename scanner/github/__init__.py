"""Clients for GitHub's APIs and for git servers, and parsers of GitHub's addresses and answers."""
