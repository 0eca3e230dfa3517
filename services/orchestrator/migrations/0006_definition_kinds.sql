-- Definitions of several kinds in one table.
ALTER TABLE definitions ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'metric';
ALTER TABLE definitions ALTER COLUMN kind DROP DEFAULT;
ALTER TABLE definitions DROP CONSTRAINT definitions_pkey;
ALTER TABLE definitions ADD PRIMARY KEY (kind, key);

-- Writes of definitions that are decided: what each service has to write, until it has. Kept as a record afterwards.
CREATE TABLE definition_writes (
    write_id    uuid NOT NULL,
    owner       text COLLATE "C" NOT NULL,
    request     bytea NOT NULL,         -- participant.v1.WriteDefinitionsRequest
    create_time timestamptz NOT NULL,
    finish_time timestamptz,
    PRIMARY KEY (write_id, owner)
);
CREATE INDEX definition_writes_unfinished ON definition_writes (create_time, write_id) WHERE finish_time IS NULL;
