"""The rules of telling: who wants what, how often, when again, and where it may go. Pure."""
