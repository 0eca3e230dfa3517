-- What events contribute to metrics by local date, followed behind the replies (docs/adr/0025).
CREATE TABLE metric_days (
    user_id       text COLLATE "C" NOT NULL,
    metric        text COLLATE "C" NOT NULL,
    local_date    date NOT NULL,
    change_micros bigint NOT NULL,
    event_count   bigint NOT NULL,
    PRIMARY KEY (user_id, metric, local_date)
) WITH (fillfactor = 80);
CREATE INDEX metric_days_by_date ON metric_days (metric, local_date);

-- Up to which version of its total a user's metric is in there, and when that was received.
CREATE TABLE metric_rollups (
    user_id      text COLLATE "C" NOT NULL,
    metric       text COLLATE "C" NOT NULL,
    version      bigint NOT NULL,
    receive_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, metric)
) WITH (fillfactor = 80);

-- The same over all users.
CREATE TABLE metric_day_totals (
    metric        text COLLATE "C" NOT NULL,
    local_date    date NOT NULL,
    change_micros numeric NOT NULL,      -- more users than one fit a bigint
    event_count   bigint NOT NULL,
    user_count    bigint NOT NULL,       -- who have events on the date
    PRIMARY KEY (metric, local_date)
) WITH (fillfactor = 80);

-- How far the totals are looked through for what nobody told of: imports, and all there was before this migration.
CREATE TABLE metric_sweep (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    round         bigint NOT NULL,       -- grows each time that it is asked for
    after_user_id text COLLATE "C",      -- null: to the end
    after_metric  text COLLATE "C"
);
INSERT INTO metric_sweep (round, after_user_id, after_metric) VALUES (1, '', '');

CREATE TYPE metric_rollup_row AS (
    user_id        text,
    metric         text,
    version_before bigint,
    version        bigint,
    receive_time   timestamptz
);
CREATE TYPE metric_day_row AS (
    user_id       text,
    metric        text,
    local_date    date,
    change_micros bigint,
    event_count   bigint
);
CREATE TYPE metric_day_total_row AS (
    metric        text,
    local_date    date,
    change_micros numeric,
    event_count   bigint,
    user_count    bigint
);
