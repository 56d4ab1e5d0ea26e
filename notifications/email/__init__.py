"""Mails: their facts, the rendering of the facts as subject, text and HTML, and the transports that send mails."""
