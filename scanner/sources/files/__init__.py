"""Files that are fetched over HTTP, each once by what it holds."""
