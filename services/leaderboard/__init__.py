"""Leaderboards: scores per run and segment, ranks, the archive of past runs (RULES 6)."""
