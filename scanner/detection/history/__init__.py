"""The scan of all objects in a git repository on disk, and the search for the paths and commits of the findings."""
