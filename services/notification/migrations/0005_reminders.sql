-- Up to which end of theirs the streaks have been looked for of which users are reminded.
CREATE TABLE reminded_streaks (
    streak      text COLLATE "C" PRIMARY KEY,
    found_until timestamptz NOT NULL
);
