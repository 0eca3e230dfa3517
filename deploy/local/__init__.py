"""The local stack: real PostgreSQL and Valkey servers, and Laurel's processes, on one machine."""
