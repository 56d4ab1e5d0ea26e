"""The web console under `/console/`, which shows the state of the service and lets operators make decisions.

`mount.routes` returns its routes. All pages except sign-in require a session.
"""
