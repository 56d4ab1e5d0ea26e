"""What r8scan can see of public GitHub, by source and number of installations: a model, no part of the service."""
