-- By which levels the users of each system stand at those that are stored; and how far they have been looked at since these
-- changed.
CREATE TABLE relevellings (
    points_system text COLLATE "C" PRIMARY KEY,
    levels        text NOT NULL,           -- what they look at, and thresholds, as the service writes them
    after_user    text COLLATE "C"         -- the last one who was looked at, '' for none yet; NULL: all were
);
