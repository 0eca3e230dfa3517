-- Definitions of several kinds in one table.
ALTER TABLE definitions ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'leaderboard';
ALTER TABLE definitions ALTER COLUMN kind DROP DEFAULT;
ALTER TABLE definitions DROP CONSTRAINT definitions_pkey;
ALTER TABLE definitions ADD PRIMARY KEY (kind, key);
