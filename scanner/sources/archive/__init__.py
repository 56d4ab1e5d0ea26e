"""The event archive: hours of public events, read long after."""
