"""`laurel validate`: a file is checked without a system."""

from pathlib import Path

from click.testing import CliRunner, Result

from services.cli.errors import EXIT_REFUSED
from services.cli.kinds import OWNED
from services.cli.main import cli
from shared.definitions import KINDS

DEMO = Path(__file__).parents[3] / "deploy" / "demo" / "laurel.yaml"


def validate(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["validate", "-f", "-", *arguments], input=text)


def places(result: Result) -> list[str]:
    return [line.removeprefix("<stdin>:").rpartition("  ")[0] for line in result.stderr.splitlines()[:-1]]


def test_every_kind_is_known_to_the_command() -> None:
    assert tuple(OWNED) == KINDS


def test_a_valid_file_is_summed_up() -> None:
    result = CliRunner().invoke(cli, ["validate", "-f", str(DEMO)])
    assert result.exit_code == 0
    assert result.stdout == (
        "Valid: 2 metrics, 2 streaks, 19 achievements, 1 points system, 4 leaderboards.\n"
    )


def test_achievements_that_are_prerequisites_of_themselves_are_found() -> None:
    result = validate(
        """\
achievements:
  - {key: hen, composite: {achievements: [egg]}}
  - {key: egg, composite: {achievements: [hen]}}
"""
    )
    assert places(result) == [
        "2:42  achievements[0].composite.achievements",
        "3:42  achievements[1].composite.achievements",
    ]


def test_what_services_would_refuse_is_found_with_its_place() -> None:
    result = validate(
        """\
metrics:
  - {key: runs}
streaks:
  - {key: running, frequency: daily, metrics: [{metric: runs, threshold: -1}], week_start: monday}
achievements:
  - {key: runner, metric: {metric: runs, threshold: 0}}
points_systems:
  - {key: xp, triggers: [{key: a, amount: 0, user_created: {}}]}
leaderboards:
  - {key: Top, metric: runs}
"""
    )
    assert result.exit_code == EXIT_REFUSED
    assert places(result) == [
        "4:74  streaks[0].metrics[0].threshold",
        "4:92  streaks[0].week_start",
        "6:53  achievements[0].metric.threshold",
        "8:43  points_systems[0].triggers[0].amount",
        "10:11  leaderboards[0].key",
    ]
    assert result.stderr.endswith("5 mistakes; the file is not valid.\n")


def test_a_mention_of_what_the_file_does_not_have_is_a_mistake_unless_it_is_a_part() -> None:
    text = """\
streaks:
  - {key: running, frequency: daily, metrics: [{metric: runs}]}
leaderboards:
  - {key: top, points_system: xp}
  - {key: long, streak: running}
"""
    assert places(validate(text)) == [
        "2:57  streaks[0].metrics[0].metric",
        "4:31  leaderboards[0].points_system",
    ]
    assert validate(text, "--partial").exit_code == 0


def test_a_file_that_cannot_be_read_is_not_valid() -> None:
    result = validate("streaks: [{key: a, frequency: dayly}]")
    assert result.exit_code == EXIT_REFUSED
    assert result.stderr.splitlines() == [
        "<stdin>:1:31  streaks[0].frequency  unknown value 'dayly'; did you mean daily?",
        "1 mistake; the file is not valid.",
    ]
