-- States are written by the names of their fields, instants as text (services/streak/encoding.py). Until now:
-- {"first": [micros, id], "newest": [micros, id, zone], "latest_date": date,
--  "settled": {"freezes": [origin, balance, grant_count], "longest": n, "zones": [[period, zone], ...],
--              "anchor": null | {"period": n, "run": [start, length], "qualified": micros, "latest": [micros, zone]}},
--  "tally": {"period": n, "sums": [micros, ...], "earliest": [micros, zone], "latest": [micros, id, zone],
--            "qualified": null | micros}}

CREATE FUNCTION pg_temp.instant(micros json) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(timestamp 'epoch' + (micros #>> '{}')::bigint * interval '1 microsecond',
                   'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
CREATE FUNCTION pg_temp.placed(value json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT json_build_array(pg_temp.instant(value -> 0), (value ->> 1)::uuid)
$$;
CREATE FUNCTION pg_temp.sighting(value json, zone integer) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT json_build_object('time', pg_temp.instant(value -> 0), 'zone', value ->> zone)
$$;

UPDATE streak_states
   SET state = json_build_object(
           'first_order', pg_temp.placed(state -> 'first'),
           'newest_order', pg_temp.placed(state -> 'newest'),
           'newest_zone', state -> 'newest' ->> 2,
           'latest_date', state ->> 'latest_date',
           'settled', json_build_object(
               'freezes', json_build_object(
                   'origin', state #>> '{settled,freezes,0}',
                   'balance', state #> '{settled,freezes,1}',
                   'grant_count', state #> '{settled,freezes,2}'),
               'anchor', CASE json_typeof(state #> '{settled,anchor}') WHEN 'object' THEN json_build_object(
                   'period', state #> '{settled,anchor,period}',
                   'run', json_build_object('start_date', state #>> '{settled,anchor,run,0}',
                                            'length', state #> '{settled,anchor,run,1}'),
                   'qualify_time', pg_temp.instant(state #> '{settled,anchor,qualified}'),
                   'latest', pg_temp.sighting(state #> '{settled,anchor,latest}', 1)) END,
               'longest', state #> '{settled,longest}',
               'zones', state #> '{settled,zones}'),
           'tally', json_build_object(
               'period', state #> '{tally,period}',
               'sums_micros', state #> '{tally,sums}',
               'earliest', pg_temp.sighting(state #> '{tally,earliest}', 1),
               'latest', pg_temp.sighting(state #> '{tally,latest}', 2),
               'latest_order', pg_temp.placed(state #> '{tally,latest}'),
               'qualify_time', pg_temp.instant(state #> '{tally,qualified}')))
 WHERE state IS NOT NULL;
