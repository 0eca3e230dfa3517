-- How often a key may be used (RULES 9.2); null: it has no limit of its own.
ALTER TABLE keys ADD COLUMN rate_per_second double precision;
ALTER TABLE keys ADD COLUMN rate_burst integer;
