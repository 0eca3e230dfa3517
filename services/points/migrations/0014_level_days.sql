-- How many users were at each level of a system at the end of a UTC date: counted by the first pass after it.
CREATE TABLE level_days (
    points_system text COLLATE "C" NOT NULL,
    tenant        text COLLATE "C" NOT NULL,    -- '': all users, also those of tenants
    day           date NOT NULL,
    levels        text[] COLLATE "C" NOT NULL,  -- their keys as they were then, by ascending threshold
    thresholds    bigint[] NOT NULL,            -- of each
    user_counts   bigint[] NOT NULL,            -- of those below the first, and then of each
    PRIMARY KEY (points_system, tenant, day)
);

CREATE TYPE level_day_row AS (
    points_system text,
    tenant        text,
    day           date,
    levels        text[],
    thresholds    bigint[],
    user_counts   bigint[]
);
