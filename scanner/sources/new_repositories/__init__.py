"""The source of new public repositories. It lists them by id, and checks each until somebody has pushed to it."""
