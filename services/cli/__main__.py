"""`python -m services.cli`: the `laurel` command."""

from services.cli.main import main

if __name__ == "__main__":
    main()
