"""Notification: what changes is told to others, by webhooks (RULES 8). It follows; nothing waits for it."""
