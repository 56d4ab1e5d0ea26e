"""Pushes: read by git's own protocol, object by object, the likelier first."""
