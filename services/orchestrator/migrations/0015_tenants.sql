-- The tenant whose users alone a key knows (RULES 9.3); null: of none, it knows all.
ALTER TABLE keys ADD COLUMN tenant text COLLATE "C";
CREATE INDEX keys_by_tenant ON keys (tenant, key_id) WHERE tenant IS NOT NULL;
