"""Files that are fetched over HTTP. Each content is read once."""
