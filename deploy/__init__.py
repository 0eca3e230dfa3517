"""How Laurel is run: the local stack, container and cluster files, load profiles."""
