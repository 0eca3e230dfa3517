"""The orchestrator's tables, by concept: the ledger, the sagas, the undoing of entries, and what is read."""
