"""New public repositories: listed by id as they are created, and looked at until their first push has come."""
