"""`python -m services.leaderboard serve | migrate`."""

from services.leaderboard.config import MIGRATIONS, NAME, Settings
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, server="services.leaderboard.server", migrations=MIGRATIONS)
