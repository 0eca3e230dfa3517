"""The local stack: real PostgreSQL and Valkey servers, and Laurel's processes, on one machine."""

import os

# The launcher forks in processes that talk gRPC. What it starts replaces itself at once; gRPC's handlers around a
# fork would only get in the way of that.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
