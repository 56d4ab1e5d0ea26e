"""Mails: the data that they report, their subject, text and HTML, and how they are sent."""
