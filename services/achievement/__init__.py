"""Achievements: what users earn, once each, by a metric, by a streak or by an explicit call (RULES 4)."""
