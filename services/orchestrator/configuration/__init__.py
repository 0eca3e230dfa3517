"""Definitions of all services: written here alone, one write after the other, each checked against the whole."""
