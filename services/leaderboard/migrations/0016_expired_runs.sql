-- Archived runs of which the members are not kept any more.

ALTER TABLE runs ADD COLUMN expired boolean NOT NULL DEFAULT false;
CREATE INDEX runs_to_expire ON runs (finalize_time) WHERE dropped AND NOT expired;
