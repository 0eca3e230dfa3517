"""`python -m services.streak serve | migrate`."""

from services.streak.config import Settings
from services.streak.server import MIGRATIONS, NAME, serve
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, serve=serve, migrations=MIGRATIONS)
