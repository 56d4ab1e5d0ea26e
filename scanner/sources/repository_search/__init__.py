"""Repository search by time of push: nearly every push, as soon as GitHub's search index knows of it."""
