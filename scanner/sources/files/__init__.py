"""Files that r8scan fetches over HTTP. If several files have the same content, it is read only once."""
