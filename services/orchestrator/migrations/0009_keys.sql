-- Keys of callers (RULES 9.2). Of a secret there is its SHA-256 alone: 256 random bits need no slower one.
CREATE TABLE keys (
    key_id          text COLLATE "C" PRIMARY KEY,  -- public part of the credential
    name            text COLLATE "C" NOT NULL,
    scopes          smallint[] NOT NULL,           -- common.v1.Scope
    user_id         text COLLATE "C",              -- the only user; null: all
    secret_hash     bytea NOT NULL,
    previous_hash   bytea,                         -- before the last rotation
    previous_until  timestamptz,
    create_time     timestamptz NOT NULL,
    expire_time     timestamptz,
    revoke_time     timestamptz,
    last_use_time   timestamptz                    -- to the minute
);
CREATE INDEX keys_by_user ON keys (user_id, key_id) WHERE user_id IS NOT NULL;
