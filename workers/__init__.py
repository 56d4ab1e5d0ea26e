"""The processes of the service (workers, scheduler, web server), and the commands of an operator."""
