"""The `laurel` command: a client of the services like any other."""
