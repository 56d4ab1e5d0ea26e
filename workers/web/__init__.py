"""The HTTP endpoints of the service.

Each module with endpoints has a function `routes`, which returns them. `app` combines the routes of all modules.
"""
