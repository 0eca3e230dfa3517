-- This release changes what participants are told and what they answer: no saga may be under way while it comes.
DO $$
BEGIN
    IF EXISTS (SELECT FROM sagas WHERE state IN (1, 2, 5, 7)) THEN
        RAISE EXCEPTION 'entries are under way: let the release before finish them (laurel sagas), then migrate'
            USING ERRCODE = '55000';
    END IF;
END $$;

-- Where an entry comes from, who asked for it and why, and whom else it concerns.
ALTER TABLE entries
    ADD COLUMN origin smallint,
    ADD COLUMN actor text,
    ADD COLUMN reason text,
    ADD COLUMN other_user_ids text[];

-- Steps are stored by name: a service may come in between.
ALTER TABLE sagas
    DROP COLUMN undo,
    DROP COLUMN applied,
    ADD COLUMN undo text[],
    ADD COLUMN applied_steps text[],
    ADD COLUMN applied bytea[],
    ADD COLUMN void_actor text,
    ADD COLUMN void_time timestamptz;

-- A feed for each service, followed by an opaque cursor.
ALTER TABLE feed_cursors ADD COLUMN cursor text;
UPDATE feed_cursors SET cursor = CASE sequence WHEN 0 THEN '' ELSE sequence::text END;
ALTER TABLE feed_cursors ALTER COLUMN cursor SET NOT NULL, DROP COLUMN sequence;
INSERT INTO feed_cursors (feed, cursor) VALUES ('achievement', ''), ('points', ''), ('leaderboard', '');
