-- When users signed up, by which they earn anniversaries; of those of whom it was said since there are any.
ALTER TABLE users
    ADD COLUMN sign_up_date     date,
    ADD COLUMN sign_up_zone     text,
    ADD COLUMN sign_up_version  bigint,
    ADD COLUMN eligible         text[],
    ADD COLUMN next_anniversary timestamptz;
CREATE INDEX users_anniversary ON users (next_anniversary) WHERE next_anniversary IS NOT NULL;

CREATE TYPE user_row_2 AS (
    user_id          text,
    version          bigint,
    entry_count      bigint,
    sign_up_date     date,
    sign_up_zone     text,
    sign_up_version  bigint,
    eligible         text[],
    next_anniversary timestamptz
);
