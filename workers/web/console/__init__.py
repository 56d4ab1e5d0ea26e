"""The console under `/console/`: the state of the service and the operator's decisions, in a browser.

`mount.routes(context, budget)` returns the routes. The server renders each page from the results of `queries`, which
only read. Decisions use the same functions as the command line. Every page needs a session.
"""
