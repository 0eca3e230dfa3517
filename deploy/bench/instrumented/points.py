"""The points service, seen through."""

from deploy.bench.instrumented.run import run

if __name__ == "__main__":
    run("points")
