"""Between the messages of laurel.leaderboard.v1 and the domain, with all syntactic validation."""
