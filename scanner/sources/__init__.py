"""The sources of public content. Each poll commits its jobs, its candidates and its cursor in one transaction."""
