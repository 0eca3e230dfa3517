"""Fifteen years of a real project's activity through a fresh system."""
