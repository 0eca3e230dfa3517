-- A state is updated in place (HOT), without a new entry in every index, where no index looks at it and its page has room.
DROP INDEX streak_states_in_use;
CREATE INDEX streak_states_in_use ON streak_states (streak);
ALTER TABLE streak_states SET (fillfactor = 80);
