"""Creates and sends mails: reads the data that they report, writes their subject, text and HTML, and sends them."""
