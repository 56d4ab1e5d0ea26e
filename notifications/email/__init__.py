"""Mails: facts of incidents rendered to subject, text and HTML, and the ways to hand them over."""
