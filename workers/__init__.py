"""The service's processes (workers, scheduler, web server) and the command-line tools for operators."""
