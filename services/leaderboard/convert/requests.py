"""Requests that read."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from google.protobuf.message import Message
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from services.leaderboard.config import (
    DEFAULT_INTERVAL,
    DEFAULT_RADIUS,
    DEFAULT_RANGES,
    DEFAULT_WATCHED,
    GREATEST_INTERVAL,
    LEAST_INTERVAL,
    MAX_CHOSEN_USERS,
    MAX_RADIUS,
    MAX_RANGES,
    MAX_WATCHED,
)
from services.leaderboard.domain.boards import segment_text
from services.leaderboard.results import (
    Selector,
)
from shared.errors import Violations
from shared.pages import Page, read_page
from shared.rpc.convert import (
    check_attributes,
    check_key,
    check_user_id,
    date_within,
)
from shared.tenants import CURRENT_TENANT, is_stored_form, shown, stored


def ranked_members_request(request: pb.ListRankedMembersRequest) -> tuple[Selector, Page]:
    """Which list, and which page of it. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    violations.raise_if_any()
    query = ["list_ranked_members", *_query(selector)]
    return selector, read_page(request.page_size, request.page_token, keyset=[date, int], query=query)


def members_around_request(request: pb.ListMembersAroundRequest) -> tuple[Selector, str, int]:
    """Which list, whom, and how many on each side. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    check_user_id(request.user_id, "user_id", violations)
    if not 0 <= request.radius <= MAX_RADIUS:
        violations.add("radius", f"must be 1 to {MAX_RADIUS}")
    violations.raise_if_any()
    return selector, request.user_id, request.radius or DEFAULT_RADIUS


def member_request(request: pb.GetMemberRequest) -> tuple[Selector, str]:
    """Which list, and whom. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    check_user_id(request.user_id, "user_id", violations)
    violations.raise_if_any()
    return selector, request.user_id


def chosen_members_request(request: pb.BatchGetMembersRequest) -> tuple[Selector, Sequence[str]]:
    """Which list, and whom, each once. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    if not 1 <= len(request.user_ids) <= MAX_CHOSEN_USERS:
        violations.add("user_ids", f"must be 1 to {MAX_CHOSEN_USERS}")
    for index, user_id in enumerate(request.user_ids[:MAX_CHOSEN_USERS]):
        check_user_id(user_id, f"user_ids[{index}]", violations)
    violations.raise_if_any()
    return selector, list(dict.fromkeys(request.user_ids))


def statistics_request(request: pb.GetRunStatisticsRequest) -> tuple[Selector, int]:
    """Which list, and how many ranges. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    if not 0 <= request.range_count <= MAX_RANGES:
        violations.add("range_count", f"must be 1 to {MAX_RANGES}")
    violations.raise_if_any()
    return selector, request.range_count or DEFAULT_RANGES


def watch_request(request: pb.WatchLeaderboardRequest) -> tuple[Selector, int, timedelta]:
    """Which list, how much of it, and how often at most. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    if not 0 <= request.member_count <= MAX_WATCHED:
        violations.add("member_count", f"must be 1 to {MAX_WATCHED}")
    interval = DEFAULT_INTERVAL
    if request.HasField("min_interval"):
        seconds = request.min_interval.seconds + request.min_interval.nanos / 1e9
        if LEAST_INTERVAL.total_seconds() <= seconds <= GREATEST_INTERVAL.total_seconds():
            interval = timedelta(seconds=seconds)
        else:
            violations.add("min_interval", "must be 0.1 s to 1 h")
    violations.raise_if_any()
    return selector, request.member_count or DEFAULT_WATCHED, interval


def user_standings_request(request: pb.ListUserStandingsRequest) -> tuple[str, date | None, Page]:
    """Whose, in which runs, and which page of them. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    run_date = _run_date(request, "", violations)
    violations.raise_if_any()
    query = ["list_user_standings", request.user_id, str(run_date)]
    page = read_page(request.page_size, request.page_token, keyset=[str, str], query=query)
    return request.user_id, run_date, page


def runs_request(request: pb.ListRunsRequest) -> tuple[str, Page]:
    """Whose runs, and which page of them. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    violations.raise_if_any()
    query = ["list_runs", board]
    return board, read_page(request.page_size, request.page_token, keyset=[date], query=query)


def segments_request(request: pb.ListSegmentsRequest) -> tuple[Selector, Page]:
    """Whose segments, and which page of them. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    selector = Selector(board, {}, _run_date(request, "", violations))
    violations.raise_if_any()
    query = ["list_segments", *_query(selector)]
    return selector, read_page(request.page_size, request.page_token, keyset=[date, str], query=query)


def rank_events_request(request: pb.ListRankEventsRequest) -> tuple[str, str, Page]:
    """Whose rank changes, on which board, and which page of them. Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(request.user_id, "user_id", violations)
    board = ""
    if request.leaderboard:
        board = _board_key(request.leaderboard, "leaderboard", violations)
    violations.raise_if_any()
    keyset = [datetime, UUID, str, date, str]
    query = ["list_rank_events", request.user_id, board]
    page = read_page(request.page_size, request.page_token, keyset=keyset, query=query)
    return request.user_id, board, page


def board_or_all(key: str) -> str:
    """A board's key; empty: all boards. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(key, "leaderboard", violations) if key else ""
    violations.raise_if_any()
    return board


def league_request(request: pb.GetLeagueStandingRequest) -> tuple[Selector, str]:
    """Which league and run, and whom. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    check_user_id(request.user_id, "user_id", violations)
    selector = Selector(board, {}, _run_date(request, "", violations))
    violations.raise_if_any()
    return selector, request.user_id


def ranked_groups_request(request: pb.ListRankedGroupsRequest) -> tuple[Selector, Page]:
    """Of which run, and which page of them. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    selector = Selector(board, {}, _run_date(request, "", violations))
    violations.raise_if_any()
    query = ["list_ranked_groups", *_query(selector)]
    return selector, read_page(request.page_size, request.page_token, keyset=[date, int], query=query)


def daily_ranks_request(request: pb.ListDailyRanksRequest) -> tuple[Selector, str, Page]:
    """Of which board and segment, up to which date, whose, and which page. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    check_user_id(request.user_id, "user_id", violations)
    check_attributes(request.segment, "segment", violations)
    until = None
    if request.HasField("until_date"):
        until = date_within(request.until_date, "until_date", violations)
    violations.raise_if_any()
    selector = Selector(board, dict(request.segment), until)
    query = ["list_daily_ranks", *_query(selector), request.user_id]
    page = read_page(request.page_size, request.page_token, keyset=[date, date], query=query)
    return selector, request.user_id, page


def daily_members_request(request: pb.ListDailyMembersRequest) -> tuple[Selector, Page]:
    """Of which board, segment and date, and which page. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    check_attributes(request.segment, "segment", violations)
    day = date_within(request.date, "date", violations) if request.HasField("date") else None
    violations.raise_if_any()
    selector = Selector(board, dict(request.segment), day)
    query = ["list_daily_members", *_query(selector)]
    return selector, read_page(request.page_size, request.page_token, keyset=[date, int, str], query=query)


def climbers_request(request: pb.ListClimbersRequest) -> tuple[Selector, int]:
    """Which list, and how many. Raises `InvalidArgument`."""
    violations = Violations()
    selector = _selector(request.selector, "selector", violations)
    violations.raise_if_any()
    page = read_page(request.page_size, "", keyset=[str], query=["list_climbers"])
    return selector, page.size


def prizes_request(request: pb.ListPrizesRequest) -> tuple[Selector, str, Page]:
    """Of which run, whose, and which page of them. Raises `InvalidArgument`."""
    violations = Violations()
    board = _board_key(request.leaderboard, "leaderboard", violations)
    if request.user_id:
        check_user_id(request.user_id, "user_id", violations)
    selector = Selector(board, {}, _run_date(request, "", violations))
    violations.raise_if_any()
    query = ["list_prizes", *_query(selector), request.user_id]
    page = read_page(request.page_size, request.page_token, keyset=[date, str, int, str], query=query)
    return selector, request.user_id, page


def _board_key(key: str, path: str, violations: Violations) -> str:
    """The stored key of the caller's own board: a tenant's has the tenant in front. Who is of none can name any."""
    tenant = CURRENT_TENANT.get()
    if tenant:
        check_key(key, path, violations)
        return stored(tenant, key)
    check_key(shown(key) if is_stored_form(key) else key, path, violations)
    return key


def _selector(message: pb.SegmentSelector, path: str, violations: Violations) -> Selector:
    board = _board_key(message.leaderboard, f"{path}.leaderboard", violations)
    check_attributes(message.segment, f"{path}.segment", violations)
    run_date = _run_date(message, f"{path}.", violations)
    return Selector(board, dict(message.segment), run_date)


def _run_date(message: Message, prefix: str, violations: Violations) -> date | None:
    if not message.HasField("run_date"):
        return None
    return date_within(message.run_date, f"{prefix}run_date", violations)  # type: ignore[attr-defined]


def _query(selector: Selector) -> list[str]:
    """What a page token is bound to."""
    run_date = selector.run_date.isoformat() if selector.run_date else ""
    return [selector.board, segment_text(selector.segment), run_date]
