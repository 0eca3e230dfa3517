"""`python -m services.achievement serve | migrate`."""

from services.achievement.config import MIGRATIONS, NAME, Settings
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, server="services.achievement.server", migrations=MIGRATIONS)
