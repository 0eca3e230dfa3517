"""The stations of the demo, in order: short headings, a line of explanation, then what the system says."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.notification.v1 import notification_service_pb2, webhook_pb2
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2, user_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from deploy.demo.checks import Check, check_streak_board, equal, run_checks
from deploy.demo.expected import COMMITS, Expected, read_expected
from deploy.demo.receiver import Receiver
from deploy.local.command import megabytes, resident_bytes
from deploy.local.launcher import local_stack
from deploy.local.stack import Stack
from services.cli import render
from services.cli.commands_configuration import apply_file, show_changes
from services.cli.commands_events import refusal_text, summary_text
from services.cli.configuration import read_configuration
from services.cli.connect import Connections
from services.cli.importing import ImportSummary, import_file
from services.cli.progress import progress_bar
from services.cli.show_board import show_league, show_members
from services.cli.show_event import show_operation, show_reply
from services.cli.show_points import show_awards, show_differences, show_levels
from services.cli.show_streak import show_longest
from services.cli.show_user import read_user_page, show_user_page

HERE = Path(__file__).parent
CONFIGURATION = HERE / "laurel.yaml"
SEASON = HERE / "season.yaml"
ACTIVITY = HERE / "activity.ndjson.gz"
TIMEOUT_SECONDS = 60.0
MEMORY_LIMIT_BYTES = 600_000_000
PAUSE_SECONDS = 0.05
TOP = 5
TOLD = ("metric.recorded", "streak.started", "streak.extended", "achievement.completed", "points.changed")
"""What the receiver hears of."""


class Tour:
    """One walk through a stack. `is_good` tells at the end whether every check held."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._parts: list[tuple[str, float]] = []
        self._checks: list[Check] = []
        self._configuration = read_configuration(CONFIGURATION.read_bytes()).request

    @property
    def is_good(self) -> bool:
        return all(each.holds for each in self._checks)

    def walk(self) -> None:
        """Every station. Raises `grpc.RpcError`, `LaunchError` or `CommandError`."""
        with self._part("Start", "PostgreSQL, Valkey and six services, in a fresh directory on free ports."):
            self._stack.up()
        connections = Connections({}, TIMEOUT_SECONDS, stack=local_stack(self._stack))
        try:
            self._walk(connections)
        finally:
            connections.close()

    def _walk(self, connections: Connections) -> None:
        with self._part(
            "Configure", f"{CONFIGURATION.name}: what is counted, earned and ranked; all or nothing."
        ):
            applied = apply_file(connections, CONFIGURATION.read_bytes(), CONFIGURATION.name)
            show_changes(applied.changes, dry_run=False)
        with self._part(
            "Sum up the file", "In the plainest way, without the system: the measure for the checks."
        ):
            expected = read_expected(ACTIVITY)
            render.line(f"{render.number(expected.event_count)} events of {len(expected.users)} users.")
        self._import_twice(connections, expected)
        with self._part(
            "Boards", "Ranks by commits: of all time, of one week from its archive, and by region."
        ):
            self._boards(connections, expected)
        with self._part(
            "Longest streaks", "Days in a row with a commit, in the author's own zone; freezes help."
        ):
            longest = streak_service_pb2.ListLongestStreaksRequest(streak="daily-commits")
            show_longest(
                connections.all_pages(connections.streak.ListLongestStreaks, longest, "streaks", 10).streaks
            )
        with self._part("Levels", "How many users have come how far in experience points."):
            levels = points_service_pb2.GetLevelDistributionRequest(points_system="xp")
            show_levels(connections.points.GetLevelDistribution(levels, timeout=TIMEOUT_SECONDS).levels)
        with self._part("Checks", "Read back through the services, compared with the sums of the file."):
            for check in run_checks(connections, expected, self._configuration.achievements):
                self._check(check)
        user = self._live(connections, expected)
        self._by_hand(connections)
        self._season(connections, user)
        with self._part("Memory", "Resident, of each service after all this."):
            self._memory()
        render.line("")
        render.heading("How long each part took")
        render.table(["part", ">seconds"], [[name, f"{seconds:,.1f}"] for name, seconds in self._parts])

    def _import_twice(self, connections: Connections, expected: Expected) -> None:
        with self._part("Import", f"{ACTIVITY.name}: fifteen years through the saga, in one stream."):
            first = self._import(connections)
        with self._part(
            "Import again", "The same file: every event is recognised by its key, and nothing changes."
        ):
            second = self._import(connections)
        count = expected.event_count
        self._check(
            equal(
                "The first import took every event of the file",
                (first.imported_count, first.replayed_count, first.refused_count),
                (count, 0, 0),
            )
        )
        self._check(
            equal(
                "The second import changed nothing",
                (second.imported_count, second.replayed_count, second.refused_count),
                (0, count, 0),
            )
        )

    def _import(self, connections: Connections) -> ImportSummary:
        output = render.console()
        with progress_bar(output, ACTIVITY.stat().st_size) as on_progress:
            summary = import_file(
                connections.orchestrator,
                ACTIVITY,
                on_progress=on_progress,
                on_refusal=lambda each: output.print(refusal_text(ACTIVITY, each), soft_wrap=True),
            )
        render.line(summary_text(summary))
        return summary

    def _boards(self, connections: Connections, expected: Expected) -> None:
        week = expected.busiest_week()
        selectors = [
            leaderboard_service_pb2.SegmentSelector(leaderboard="commits"),
            leaderboard_service_pb2.SegmentSelector(
                leaderboard="weekly-commits",
                run_date=date_pb2.LocalDate(year=week.year, month=week.month, day=week.day),
            ),
        ]
        selectors += [
            leaderboard_service_pb2.SegmentSelector(leaderboard="commits", segment={"region": region})
            for region in sorted(set(expected.regions.values()))
        ]
        for selector in selectors:
            request = leaderboard_service_pb2.ListRankedMembersRequest(selector=selector)
            method = connections.leaderboard.ListRankedMembers
            show_members(connections.all_pages(method, request, "members", TOP), selector)

    def _live(self, connections: Connections, expected: Expected) -> str:
        thresholds = [
            Decimal(each.metric.threshold)
            for each in self._configuration.achievements
            if each.metric.metric == COMMITS and not each.metric.event_filters
        ]
        user = expected.one_short_of(thresholds)
        with self._part("Today", "The clock moves from the end of the file to now: what is over is closed."):
            request = orchestrator_service_pb2.RunMaintenanceRequest(now=render.timestamp(datetime.now(UTC)))
            done = connections.orchestrator.RunMaintenance(request, timeout=TIMEOUT_SECONDS)
            render.line(
                f"{done.closed_streak_count} streaks closed, {done.finalized_run_count} runs archived."
            )
            self._check(check_streak_board(connections))
        with self._part("One user", "Everything that the services know of somebody."):
            show_user_page(read_user_page(connections, user), completed_only=True)
        receiver = Receiver()
        with receiver.listening():
            self._new_event(connections, expected, user, receiver)
        return user

    def _new_event(self, connections: Connections, expected: Expected, user: str, receiver: Receiver) -> None:
        with self._part("A receiver", "Another system wants to hear what changes, by signed requests."):
            endpoint = webhook_pb2.WebhookEndpoint(key="another-system", url=receiver.url, types=TOLD)
            create = notification_service_pb2.CreateWebhookEndpointRequest(
                request_id="another-system", endpoint=endpoint
            )
            made = connections.notification.CreateWebhookEndpoint(create, timeout=TIMEOUT_SECONDS)
            receiver.secret = made.secret
            render.line(f"{receiver.url} hears of {', '.join(TOLD)}.")
        with self._part(
            "A new event", "One commit, now; the reply has all that it changed, committed everywhere."
        ):
            event = event_pb2.IngestEventRequest(
                user=user_pb2.User(user_id=user),
                metric=COMMITS,
                value=1,
                idempotency_key="a-new-commit",
                attributes={"area": "docs"},
            )
            started = time.monotonic()
            reply = connections.orchestrator.IngestEvent(event, timeout=TIMEOUT_SECONDS)
            render.line(f"Answered after {1000 * (time.monotonic() - started):.0f} ms.")
            show_reply(reply)
        self._check(
            equal(
                "The new event added one commit", reply.total_after, float(expected.scores(COMMITS)[user] + 1)
            )
        )
        with self._part("What was told", "As it came to the receiver, which verified each signature."):
            wanted = self._told_of(connections, user, reply.entry_id)
            all_came = bool(wanted) and receiver.wait_for(wanted, TIMEOUT_SECONDS)
            self._check(equal("All that the event changed came", all_came, True))
            for told in receiver.told:
                verified = "verified" if told.is_verified else "NOT VERIFIED"
                render.line(f"  {verified}  {told.event['type']:<24}  {told.event['id']}")
            came = list(dict.fromkeys(told.event["id"] for told in receiver.told))
            self._check(equal("In order, and nothing else", came, wanted))
            delete = notification_service_pb2.DeleteWebhookEndpointRequest(
                request_id="no-more", key="another-system"
            )
            connections.notification.DeleteWebhookEndpoint(delete, timeout=TIMEOUT_SECONDS)
            forged = [told.event["id"] for told in receiver.told if not told.is_verified]
            self._check(Check("Every request was signed by the endpoint's secret", forged))

    def _told_of(self, connections: Connections, user: str, entry_id: str) -> list[str]:
        """The ids of the events that the feed has of an entry, of the types that the receiver wants."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        cursor = ""
        while time.monotonic() < deadline:
            request = orchestrator_service_pb2.ListDomainEventsRequest(
                user_id=user, types=TOLD, page_size=1_000, after_cursor=cursor
            )
            page = connections.orchestrator.ListDomainEvents(request, timeout=TIMEOUT_SECONDS)
            # All of an entry come together.
            if ids := [event.id for event in page.events if event.entry_id == entry_id]:
                return ids
            if page.cursor == cursor:
                time.sleep(PAUSE_SECONDS)
            cursor = page.cursor
        return []

    def _by_hand(self, connections: Connections) -> None:
        """A streak that broke comes back, and is paused for a holiday."""
        now, user, streak = datetime.now(UTC), "somebody-ill", "daily-commits"
        with self._part(
            "A restore",
            "Two days of commits, four without any, of which two cost a freeze; then one more commit.",
        ):
            for days_ago in (6, 5, 0):
                event = event_pb2.IngestEventRequest(
                    user=user_pb2.User(user_id=user, time_zone="UTC"), metric=COMMITS, value=1
                )
                event.idempotency_key = f"ill-{days_ago}"
                event.occur_time.FromDatetime(now - timedelta(days=days_ago))
                connections.orchestrator.IngestEvent(event, timeout=TIMEOUT_SECONDS)
            wanted = orchestrator_service_pb2.RestoreStreakRequest(
                user_id=user, streak=streak, reason="was in hospital", request_id="get-well"
            )
            restored = connections.orchestrator.RestoreStreak(wanted, timeout=TIMEOUT_SECONDS)
            show_operation(restored)
            self._check(
                equal(
                    "What was lost and what came since is one streak",
                    self._length(connections, user, streak),
                    3,
                )
            )
        with self._part("A pause", "Two weeks from today on, in which nothing is lost."):
            today = now.date()
            until = today + timedelta(days=13)
            pause = orchestrator_service_pb2.PauseStreakRequest(
                user_id=user,
                streak=streak,
                start_date=date_pb2.LocalDate(year=today.year, month=today.month, day=today.day),
                end_date=date_pb2.LocalDate(year=until.year, month=until.month, day=until.day),
                reason="a holiday",
                request_id="a-holiday",
            )
            show_operation(connections.orchestrator.PauseStreak(pause, timeout=TIMEOUT_SECONDS))
            later = streak_service_pb2.ListUserStreaksRequest(user_id=user)
            later.read_time.FromDatetime(now + timedelta(days=14))
            self._check(
                equal(
                    "It is as long when the pause is over", self._length(connections, user, streak, later), 3
                )
            )

    @staticmethod
    def _length(
        connections: Connections,
        user: str,
        streak: str,
        asked: streak_service_pb2.ListUserStreaksRequest | None = None,
    ) -> int:
        request = asked or streak_service_pb2.ListUserStreaksRequest(user_id=user)
        listed = connections.streak.ListUserStreaks(request, timeout=TIMEOUT_SECONDS)
        return {each.streak: each.length for each in listed.streaks}[streak]

    def _season(self, connections: Connections, user: str) -> None:
        """What can be added to a system that runs: gems with a boost, a composite, a league."""
        with self._part(
            "A season", f"{SEASON.name}: added to the running system; nothing earned before changes."
        ):
            applied = apply_file(connections, SEASON.read_bytes(), SEASON.name)
            show_changes(applied.changes, dry_run=False)
        with self._part(
            "A boosted commit", "Two gems for a commit, and twice as many while the boost lasts."
        ):
            event = event_pb2.IngestEventRequest(
                user=user_pb2.User(user_id=user), metric=COMMITS, value=1, idempotency_key="a-boosted-commit"
            )
            reply = connections.orchestrator.IngestEvent(event, timeout=TIMEOUT_SECONDS)
            [gems] = [change for change in reply.effects.points if change.points_system == "gems"]
            show_awards(gems.awards)
            self._check(equal("The boost doubled two gems", gems.balance, 4))
            made_of = [(each.base_amount, each.multiplier, list(each.boosts)) for each in gems.awards]
            self._check(equal("The award says so", made_of, [(2, 2.0, ["double-gems"])]))
            audit = connections.points.AuditPoints(
                points_service_pb2.AuditPointsRequest(user_id=user), timeout=TIMEOUT_SECONDS
            )
            show_differences(audit)
            self._check(equal("An audit from the first fact finds nothing else", len(audit.differences), 0))
        with self._part("A composite", "A talk was given: with the first commit, that makes an ambassador."):
            call = orchestrator_service_pb2.CompleteAchievementRequest(
                user=user_pb2.User(user_id=user), achievement="conference-speaker", request_id="the-talk"
            )
            completed = connections.orchestrator.CompleteAchievement(call, timeout=TIMEOUT_SECONDS)
            show_operation(completed)
            earned = {change.achievement for change in completed.effects.achievements}
            self._check(equal("Both are earned with one call", earned, {"conference-speaker", "ambassador"}))
        with self._part("Spending", "Thirty gems are spent, and then the purchase is voided."):
            purchase = orchestrator_service_pb2.SpendPointsRequest(
                user_id=user, points_system="gems", amount=30, reason="a sticker", request_id="the-sticker"
            )
            spent = connections.orchestrator.SpendPoints(purchase, timeout=TIMEOUT_SECONDS)
            [left] = spent.effects.points
            undo = orchestrator_service_pb2.VoidEntryRequest(
                entry_id=spent.entry_id, reason="out of stickers", request_id="no-sticker"
            )
            voided = connections.orchestrator.VoidEntry(undo, timeout=TIMEOUT_SECONDS)
            [back] = voided.effects.points
            render.line(
                f"{left.balance_before} gems, {left.balance} after the purchase, {back.balance} after its void."
            )
            self._check(equal("The void gave back what was spent", back.balance, left.balance_before))
        with self._part(
            "A league", "Where the user stands in this week's cohort, and what would happen now."
        ):
            place = leaderboard_service_pb2.GetLeagueStandingRequest(leaderboard="league", user_id=user)
            standing = connections.leaderboard.GetLeagueStanding(place, timeout=TIMEOUT_SECONDS).standing
            show_league(standing)
            self._check(
                equal("Whoever has just committed is in a cohort or about to be", standing.division, "bronze")
            )

    def _memory(self) -> None:
        memory = {
            each.name: resident_bytes(each.pid)
            for each in self._stack.status()
            if each.pid is not None and each.name not in ("postgres", "valkey")
        }
        total = sum(memory.values())
        rows: render.Rows = [[name, megabytes(count)] for name, count in memory.items()]
        render.table(["service", ">memory"], [*rows, ["together", megabytes(total)]])
        over = [megabytes(total)] if total >= MEMORY_LIMIT_BYTES else []
        self._check(Check(f"The six services together stay under {megabytes(MEMORY_LIMIT_BYTES)}", over))

    def _check(self, check: Check) -> None:
        self._checks.append(check)
        if check.holds:
            render.line(f"  ok      {check.statement}.", style="green")
        else:
            render.line(f"  FAILED  {check.statement}: {check.shown_mismatches}", style="bold red")

    @contextmanager
    def _part(self, name: str, explanation: str) -> Iterator[None]:
        render.line("")
        render.heading(name)
        render.line(explanation)
        started = time.monotonic()
        yield
        self._parts.append((name, time.monotonic() - started))
