"""What is stored of leaderboards in PostgreSQL, the truth (RULES 6.7): a module for each concern."""
