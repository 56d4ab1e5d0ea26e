"""The HTTP endpoints of the service. The module `app` combines the routes of all other modules."""
