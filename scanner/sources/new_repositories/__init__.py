"""The source of new public repositories. It lists them by id, and looks at each of them until its first push."""
