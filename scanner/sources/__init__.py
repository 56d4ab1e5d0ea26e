"""The sources of public content. Each poll commits its jobs and candidates in one transaction with its cursor."""
