"""The source of new public repositories. It lists them by id, and looks at each repository until its first push."""
