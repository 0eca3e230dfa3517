"""Measuring Laurel against the ceilings of the machine it runs on: `make bench`."""
