"""The orchestrator: the single ingest endpoint, the ledger of entries, and the saga over the feature services."""
