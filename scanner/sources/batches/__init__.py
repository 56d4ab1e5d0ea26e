"""Jobs that read a page of items: the runner, load shedding, and recovery from the spool."""
