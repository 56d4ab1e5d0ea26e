"""Jobs that read a page (several items): the runner, load shedding, and recovery from the spool."""
