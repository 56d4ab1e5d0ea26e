"""Other signs of compromise than a public find: reports, usage, possession. Each becomes a report, then a response."""
