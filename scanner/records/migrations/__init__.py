"""The migrations: the history of all changes to the tables, applied in order by alembic."""
