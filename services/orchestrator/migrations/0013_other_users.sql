-- Whom an entry concerns besides its user: to export and delete users. Few entries have any, so it costs the others nothing.
CREATE INDEX entries_by_other_user ON entries USING gin (other_user_ids) WHERE other_user_ids IS NOT NULL;
