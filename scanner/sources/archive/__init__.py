"""The event archive as a source: hourly files of public events that fill the gaps of the timeline."""
