-- Which boosts were told to have begun, and to have ended.
CREATE TABLE told_boosts (
    points_system text COLLATE "C" NOT NULL,
    boost         text COLLATE "C" NOT NULL,
    finished      boolean NOT NULL,
    PRIMARY KEY (points_system, boost)
);
