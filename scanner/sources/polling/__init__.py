"""Polling of sources: claims, reports, and delays after failures."""
