-- Whether users have been shown what they completed. What was completed before anybody could say so counts as seen.
ALTER TABLE live_completions ADD COLUMN seen boolean NOT NULL DEFAULT true;
ALTER TABLE live_completions ALTER COLUMN seen SET DEFAULT false;
