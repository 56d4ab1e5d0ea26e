"""The scan of all objects in a Git repository on disk, and the search for the places of its findings."""
