-- Who is excluded from boards keeps the score and is ranked nowhere. Who is a member has an order_score; who is hidden has
-- a score and none.

ALTER TABLE users ADD COLUMN exclusions text NOT NULL DEFAULT '{}';  -- by board, '' for all: a JSON object

CREATE TYPE user_row_2 AS (
    user_id         text,
    loaded_version  bigint,  -- that the decision was made on
    version         bigint,
    profile_version bigint,
    name            text,
    attributes      text,
    exclusions      text
);
