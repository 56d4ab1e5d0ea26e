"""What the service answers over HTTP: each module offers `routes(context)` for one Starlette application."""
