"""Jobs that are pages of items: the runner, limits on what a page holds, shedding, and what the spool gives back."""
