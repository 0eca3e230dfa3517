"""`python -m services.streak serve | migrate`."""

from services.streak.config import MIGRATIONS, NAME, Settings
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, server="services.streak.server", migrations=MIGRATIONS)
