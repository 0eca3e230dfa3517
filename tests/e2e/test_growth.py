"""A system that was filled with copies of users goes on with them as with any others."""

from pathlib import Path

from deploy.bench.growth import Shape, grown
from deploy.bench.growth_checks import check
from deploy.bench.lab import Lab, Say, Scale

SHAPE = Shape(template_users=30, copies=5, rounds=2)
SCALE = Scale(
    repeats=1, window_seconds=1.0, warmup_seconds=0.0, overload_seconds=1.0, users=SHAPE.template_users
)


def test_copies_of_users_are_counted_read_ranked_and_go_on_like_users_of_their_own(
    server_directory: Path,
) -> None:
    home = server_directory / "growth"
    home.mkdir(mode=0o755)
    with Lab(home, SCALE, Say()) as lab, grown(lab, "large", SHAPE) as large:
        assert check(large.stack, SHAPE.template_users, SHAPE.copies, SHAPE.events) == []
        assert large.filled["orchestrator.entries"].rows == SHAPE.events == 600
        assert large.filled["leaderboard.users"].rows == SHAPE.users == 150
        # They have gone on meanwhile, and that is seen.
        seen = check(large.stack, SHAPE.template_users, SHAPE.copies, SHAPE.events)
        assert "points has 150 users and 609 events" in seen
        assert "user-0000030 is not what user-0000000 is" in seen
