-- How far the backfills of streaks have come: events of before the streak was defined are counted for it, user by user.
CREATE TABLE streak_backfills (
    streak       text COLLATE "C" PRIMARY KEY,
    begin_time   timestamptz NOT NULL,          -- when the streak was defined
    user_id      text COLLATE "C" NOT NULL,     -- up to which user it has come
    looked_count bigint NOT NULL,               -- users
    found_count  bigint NOT NULL,               -- of those with events that count
    finish_time  timestamptz
);
