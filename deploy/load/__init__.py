"""Loading a running stack with ghz: `make load`."""
