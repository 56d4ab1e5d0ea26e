"""The source of new public repositories. It lists them by id, and checks each one until somebody has pushed to it."""
