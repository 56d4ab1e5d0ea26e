"""Jobs that read several items: the runner, load shedding, and recovery from the spool."""
