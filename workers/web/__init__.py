"""The HTTP endpoints of the service. Each module offers `routes(context)`, and `app` combines them."""
