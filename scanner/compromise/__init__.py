"""Handles reports of compromised tokens that r8scan did not find in public itself."""
