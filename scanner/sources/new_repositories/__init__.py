"""The source of new public repositories. It lists them by id, and looks at each until its first push."""
