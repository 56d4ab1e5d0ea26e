"""The console under `/console/`: the state of the service and the operator's decisions, in a browser.

`mount.routes(context, budget)` offers its routes. Pages are rendered on the server from `queries`, which only read.
Decisions use the same functions as the command line. Every page needs a session.
"""
