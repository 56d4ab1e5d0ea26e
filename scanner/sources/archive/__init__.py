"""The event archive as a source: hourly files of public events, which fill the gaps of the event timeline."""
