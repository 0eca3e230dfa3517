-- Paused periods: for statistics over ranges of dates.
CREATE INDEX periods_paused ON periods (streak, start_date) WHERE status = 3;
