-- Periods at which something was at stake and did not simply go on: for statistics over ranges of dates.
CREATE INDEX periods_ends ON periods (streak, start_date) WHERE status >= 6;
