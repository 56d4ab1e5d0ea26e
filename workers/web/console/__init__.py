"""The console under `/console/`: what the service does, and what an operator decides, in a browser.

`mount.routes(context, budget)` offers its routes. Pages are rendered on the server from `queries`, which only read;
what an operator decides goes through the same functions as the command line. Every page needs a session.
"""
