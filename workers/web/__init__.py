"""The HTTP endpoints of the service.

The modules of endpoints have a function `routes(context)`, and `app` combines the routes.
"""
