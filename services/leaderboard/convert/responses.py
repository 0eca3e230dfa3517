"""What reads are answered with."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb

from services.leaderboard.convert.common import (
    date_to_proto,
    mean_to_proto,
    run_to_proto,
    score_to_proto,
)
from services.leaderboard.convert.entries import standing_to_proto
from services.leaderboard.domain.boards import Board, Boards, segment_text, segment_values
from services.leaderboard.domain.leagues import cohort_values
from services.leaderboard.domain.members import Profile
from services.leaderboard.domain.ranks import Member
from services.leaderboard.domain.runs import RunState, RunStatus, status_of
from services.leaderboard.results import (
    ArchivedPlace,
    Climber,
    DailyMembers,
    DailyRank,
    GivenPrize,
    LeagueStanding,
    MemberStanding,
    RankedGroup,
    RankedMembers,
    RankEvent,
    RunStatistics,
    Segment,
    UserStanding,
    Verified,
)
from shared.pages import Page
from shared.rpc.convert import set_micros, to_timestamp

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_UNKNOWN: Final = Profile()
_STATUSES: Final = {
    RunStatus.UPCOMING: leaderboard_pb2.RUN_STATUS_UPCOMING,
    RunStatus.RUNNING: leaderboard_pb2.RUN_STATUS_RUNNING,
    RunStatus.CLOSING: leaderboard_pb2.RUN_STATUS_CLOSING,
    RunStatus.FINALIZED: leaderboard_pb2.RUN_STATUS_FINALIZED,
}


def ranked_members_response(found: RankedMembers, token: str) -> pb.ListRankedMembersResponse:
    """A page of members."""
    response = pb.ListRankedMembersResponse(
        next_page_token=token,
        run=run_to_proto(found.run),
        member_count=found.member_count,
        rebuilding=found.is_rebuilding,
    )
    _add_members(response.members, found)
    return response


def members_around_response(found: RankedMembers) -> pb.ListMembersAroundResponse:
    """The members around a user."""
    response = pb.ListMembersAroundResponse(
        run=run_to_proto(found.run),
        member_count=found.member_count,
        rebuilding=found.is_rebuilding,
    )
    _add_members(response.members, found)
    return response


def member_response(standing: MemberStanding) -> pb.GetMemberResponse:
    """One user's place."""
    found = standing.found
    ((rank, member),) = found.members
    told = leaderboard_pb2.MemberStanding(
        top_percent=100 * (standing.better_count + 1) / max(found.member_count, standing.better_count + 1),
    )
    _write(told.member, found, rank, member)
    if standing.next_better is not None:
        _write(told.next, found, *standing.next_better)
        told.next_distance = score_to_proto(found.board, abs(standing.next_better[1].amount - member.amount))
    told.prizes.extend(prize.key for prize in standing.prizes)
    if standing.next_prize is not None:
        prize, last = standing.next_prize
        told.next_prize = prize.key
        told.next_prize_distance = score_to_proto(found.board, abs(last.amount - member.amount))
    return pb.GetMemberResponse(
        standing=told,
        run=run_to_proto(found.run),
        member_count=found.member_count,
        rebuilding=found.is_rebuilding,
    )


def chosen_members_response(found: RankedMembers) -> pb.BatchGetMembersResponse:
    """The places of chosen users."""
    response = pb.BatchGetMembersResponse(
        run=run_to_proto(found.run),
        member_count=found.member_count,
        rebuilding=found.is_rebuilding,
    )
    _add_members(response.members, found)
    return response


def watch_response(found: RankedMembers) -> pb.WatchLeaderboardResponse:
    """The top as it is now."""
    response = pb.WatchLeaderboardResponse(
        run=run_to_proto(found.run),
        member_count=found.member_count,
        rebuilding=found.is_rebuilding,
    )
    _add_members(response.members, found)
    return response


def statistics_response(
    board: Board, run: RunState, statistics: RunStatistics
) -> pb.GetRunStatisticsResponse:
    """What is said of all members together."""
    lowest, highest = (score_to_proto(board, one) for one in (statistics.lowest, statistics.highest))
    ranges = len(statistics.counts)
    bounds = [lowest + (highest - lowest) * number / max(ranges, 1) for number in range(ranges)] + [highest]
    return pb.GetRunStatisticsResponse(
        statistics=leaderboard_pb2.RunStatistics(
            member_count=statistics.member_count,
            total=score_to_proto(board, statistics.total),
            average=mean_to_proto(board, statistics.average),
            median=score_to_proto(board, statistics.median),
            lowest=lowest,
            highest=highest,
            histogram=[
                leaderboard_pb2.ScoreRange(
                    to=bounds[number + 1], member_count=count, **{"from": bounds[number]}
                )
                for number, count in enumerate(statistics.counts)
            ],
        ),
        run=run_to_proto(run),
    )


def user_standings_response(
    user_id: str,
    standings: Sequence[UserStanding],
    archived: Sequence[tuple[Board, ArchivedPlace]],
    page: Page,
) -> pb.ListUserStandingsResponse:
    """A page by board and segment. A read has no rank before."""
    found = [standing_to_proto(user_id, user.board, user.move, user.placement) for user in standings]
    found += [
        leaderboard_pb2.Standing(
            user_id=user_id,
            leaderboard=board.key,
            segment=segment_values(place.segment),
            run=run_to_proto(place.run),
            score=score_to_proto(board, place.member.amount),
            rank=place.rank,
        )
        for board, place in archived
    ]
    found.sort(key=_place)
    rest = [standing for standing in found if page.after is None or _place(standing) > tuple(page.after)]
    shown = rest[: page.size]
    token = page.next_token(*_place(shown[-1])) if len(rest) > page.size else ""
    return pb.ListUserStandingsResponse(standings=shown, next_page_token=token)


def _place(standing: leaderboard_pb2.Standing) -> tuple[str, str]:
    return standing.leaderboard, segment_text(standing.segment)


def runs_response(runs: Sequence[RunState], page: Page, now: datetime) -> pb.ListRunsResponse:
    """A page of runs."""
    shown = runs[: page.size]
    token = page.next_token(shown[-1].run.start) if len(runs) > page.size else ""
    return pb.ListRunsResponse(runs=[_run(run, now) for run in shown], next_page_token=token)


def _run(state: RunState, now: datetime) -> leaderboard_pb2.Run:
    run = leaderboard_pb2.Run(status=_STATUSES[status_of(state, now)])
    run.MergeFrom(run_to_proto(state))
    return run


def verify_response(verified: Verified) -> pb.VerifyProjectionResponse:
    """What a comparison came to."""
    return pb.VerifyProjectionResponse(
        segment_count=verified.segment_count,
        member_count=verified.member_count,
        differences=[
            pb.ProjectionDifference(
                leaderboard=difference.key.board,
                run_start_date=date_to_proto(difference.key.run_start),
                segment=segment_values(difference.key.segment),
                missing_count=difference.missing_count,
                surplus_count=difference.surplus_count,
            )
            for difference in verified.differences
        ],
        memory_bytes=verified.memory_bytes,
    )


def league_response(standing: LeagueStanding) -> pb.GetLeagueStandingResponse:
    """Where a user stands in a league."""
    found, league = standing.found, standing.found.board.league
    assert league is not None  # the handler refuses others
    told = leaderboard_pb2.LeagueStanding(
        leaderboard=found.board.key,
        user_id=standing.user_id,
        run=run_to_proto(found.run),
        division=league.divisions[standing.division].key,
        segment=cohort_values(league, standing.cohort) if standing.cohort else None,
        waiting=standing.waits,
        rank=standing.rank,
        outcome=leaderboard_pb2.LeagueOutcome.ValueType(standing.outcome or 0),
        next_division=league.divisions[standing.next_division].key,
    )
    _add_members(told.members, found)
    if standing.promotion_distance is not None:
        told.promotion_distance = score_to_proto(found.board, standing.promotion_distance)
    if standing.demotion_distance is not None:
        told.demotion_distance = score_to_proto(found.board, standing.demotion_distance)
    return pb.GetLeagueStandingResponse(standing=told)


def ranked_groups_response(
    board: Board, run: RunState, groups: Sequence[RankedGroup], token: str
) -> pb.ListRankedGroupsResponse:
    """A page of groups."""
    return pb.ListRankedGroupsResponse(
        groups=[
            leaderboard_pb2.RankedGroup(
                rank=group.rank,
                segment=segment_values(group.segment),
                score=mean_to_proto(board, group.score),
                member_count=group.member_count,
            )
            for group in groups
        ],
        next_page_token=token,
        run=run_to_proto(run),
    )


def daily_ranks_response(board: Board, ranks: Sequence[DailyRank], page: Page) -> pb.ListDailyRanksResponse:
    """A page of dates."""
    shown = ranks[: page.size]
    token = page.next_token(shown[-1].day, shown[-1].run_start) if len(ranks) > page.size else ""
    return pb.ListDailyRanksResponse(
        daily_ranks=[
            leaderboard_pb2.DailyRank(
                date=date_to_proto(kept.day),
                run_start_date=date_to_proto(kept.run_start),
                rank=kept.rank,
                score=score_to_proto(board, kept.score),
            )
            for kept in shown
        ],
        next_page_token=token,
    )


def daily_members_response(found: DailyMembers, token: str) -> pb.ListDailyMembersResponse:
    """A page of members as they were at the end of a date."""
    profiles = {member.user_id: found.profiles.get(member.user_id, _UNKNOWN) for member in found.members}
    return pb.ListDailyMembersResponse(
        members=[
            leaderboard_pb2.RankedMember(
                rank=member.rank,
                user_id=member.user_id,
                name=profiles[member.user_id].name,
                score=score_to_proto(found.board, member.score),
                attributes=_shown(found.board, profiles[member.user_id]),
            )
            for member in found.members
        ],
        next_page_token=token,
        run=run_to_proto(found.run),
        date=date_to_proto(found.day),
    )


def climbers_response(
    climbers: Sequence[Climber], profiles: Mapping[str, Profile]
) -> pb.ListClimbersResponse:
    """Who has come up most."""
    return pb.ListClimbersResponse(
        climbers=[
            leaderboard_pb2.Climber(
                user_id=climber.user_id,
                name=profiles.get(climber.user_id, _UNKNOWN).name,
                first_date=date_to_proto(climber.first_day),
                first_rank=climber.first_rank,
                last_date=date_to_proto(climber.last_day),
                last_rank=climber.last_rank,
            )
            for climber in climbers
        ]
    )


def prizes_response(prizes: Sequence[GivenPrize], page: Page) -> pb.ListPrizesResponse:
    """A page of prizes."""
    shown = prizes[: page.size]
    token = ""
    if len(prizes) > page.size:
        last = shown[-1]
        token = page.next_token(last.run[1], last.segment, last.ordinal, last.prize.key)
    return pb.ListPrizesResponse(prizes=map(_given_prize, shown), next_page_token=token)


def _given_prize(given: GivenPrize) -> leaderboard_pb2.GivenPrize:
    prize = given.prize
    return leaderboard_pb2.GivenPrize(
        leaderboard=given.run[0],
        run_start_date=date_to_proto(given.run[1]),
        segment=segment_values(given.segment),
        user_id=given.user_id,
        rank=given.rank,
        prize=leaderboard_pb2.Prize(
            key=prize.key,
            first_rank=0 if prize.top_percent else prize.first_rank,
            last_rank=prize.last_rank,
            top_percent=prize.top_percent,
            each_segment=prize.each_segment,
            points=[
                leaderboard_pb2.PrizePoints(points_system=gift.points_system, amount=gift.amount)
                for gift in prize.gifts
            ],
            achievement=prize.achievement,
        ),
        entry_id=str(given.entry_id),
    )


def segments_response(
    segments: Sequence[tuple[Segment, int]], beyond_count: int, page: Page
) -> pb.ListSegmentsResponse:
    """A page of segments."""
    shown = segments[: page.size]
    last = shown[-1][0].key if len(segments) > page.size else None
    return pb.ListSegmentsResponse(
        segments=[
            pb.Segment(segment=segment_values(segment.key.segment), member_count=count)
            for segment, count in shown
        ],
        next_page_token=page.next_token(last.run_start, last.segment) if last else "",
        beyond_count=beyond_count,
    )


def rank_events_response(
    events: Sequence[RankEvent], boards: Boards, page: Page
) -> pb.ListRankEventsResponse:
    """A page of rank changes."""
    shown = events[: page.size]
    token = ""
    if len(events) > page.size:
        last = shown[-1]
        key = last.key
        token = page.next_token(last.change_time, last.entry_id, key.board, key.run_start, key.segment)
    return pb.ListRankEventsResponse(
        rank_events=[_rank_event(boards.by_key[event.key.board], event) for event in shown],
        next_page_token=token,
    )


def _rank_event(board: Board, event: RankEvent) -> leaderboard_pb2.RankEvent:
    return leaderboard_pb2.RankEvent(
        leaderboard=board.key,
        segment=segment_values(event.key.segment),
        run_start_date=date_to_proto(event.key.run_start),
        entry_id="" if event.passed else str(event.entry_id),
        previous_rank=event.previous_rank,
        rank=event.rank,
        score=score_to_proto(board, event.score),
        occur_time=to_timestamp(event.change_time),
    )


def _add_members(
    messages: "RepeatedCompositeFieldContainer[leaderboard_pb2.RankedMember]", found: RankedMembers
) -> None:
    add = messages.add
    for rank, member in found.members:
        _write(add(), found, rank, member)


def _write(message: leaderboard_pb2.RankedMember, found: RankedMembers, rank: int, member: Member) -> None:
    """A member, written into the message that holds it, field by field: made by itself and copied it takes three times
    as long.
    """
    profile = found.profiles.get(member.user_id, _UNKNOWN)
    message.rank = rank
    message.user_id = member.user_id
    message.name = profile.name
    message.score = score_to_proto(found.board, member.amount)
    set_micros(message.reach_time, member.reach_micros)
    if found.board.shown:
        message.attributes.update(_shown(found.board, profile))


def _shown(board: Board, profile: Profile) -> dict[str, str]:
    """The attributes that reads show beside a member."""
    return {name: profile.attributes[name] for name in board.shown if name in profile.attributes}
