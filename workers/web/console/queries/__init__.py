"""The database queries of the console. They only read, use indexes, and have a limit on every list and count."""
