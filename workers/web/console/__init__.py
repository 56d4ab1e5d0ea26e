"""The console under `/console/`: web pages that show the state of the service, and on which operators make decisions.

`mount.routes` returns the routes. The server renders each page from the results of `queries`, which only read the
database. An operator's decision calls the same function as the matching command of the command line. Every page except
sign-in needs a session.
"""
