"""The runtime that every service stands on. It knows no domain noun and imports no service."""
