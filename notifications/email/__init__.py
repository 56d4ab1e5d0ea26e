"""Mails: the facts of incidents, their rendering as subject, text and HTML, and the transports that send them."""
