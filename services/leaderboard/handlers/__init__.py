"""What the service does for each call: load, decide, store, project."""
