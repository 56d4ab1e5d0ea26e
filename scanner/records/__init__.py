"""The rows: what must happen, what happened. Reads and writes the database; decides nothing."""
