"""`python -m services.leaderboard serve | migrate`."""

from services.leaderboard.config import Settings
from services.leaderboard.server import MIGRATIONS, NAME, serve
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, serve=serve, migrations=MIGRATIONS)
