"""The rules of leaderboards (RULES 6): pure functions on frozen dataclasses."""
