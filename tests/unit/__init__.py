"""Rules and pure parts: no socket, no server."""
