"""`python -m services.notification serve | migrate`."""

from services.notification.config import MIGRATIONS, NAME, Settings
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, server="services.notification.server", migrations=MIGRATIONS)
