"""The database queries of the console. They only read, and limit every list and count."""
