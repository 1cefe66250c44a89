-- Up Migration

-- Messages become one partition a month, in three steps, so that no step holds a lock for as long as it takes to read the table. This
-- first one promises that all ids stay below the month in which partitioning begins. A promise for what is to come takes
-- no reading: the lock (ACCESS EXCLUSIVE) lasts milliseconds.
SET LOCAL lock_timeout = '5s';

-- Ids are UUIDv7: the first 48 bits are the milliseconds since 1970. This is the least id of that moment or later.
CREATE FUNCTION message_id_at(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

DO $$
DECLARE
  -- Seven days at least until then, since clocks differ and a release takes its time.
  boundary uuid := message_id_at(date_trunc('month', now() + interval '1 month 7 days', 'UTC'));
  newest uuid := (
    SELECT last.id
    FROM workspaces w
    CROSS JOIN LATERAL (SELECT m.id FROM messages m WHERE m.workspace_id = w.id ORDER BY m.id DESC LIMIT 1) last
    ORDER BY last.id DESC LIMIT 1
  );
BEGIN
  IF newest >= boundary THEN
    RAISE EXCEPTION 'message % was written by a clock more than a week ahead', newest
      USING HINT = 'Set that clock right and give such messages earlier ids, in message_keys and reply_keys too; then migrate again.';
  END IF;
  EXECUTE format('ALTER TABLE messages ADD CONSTRAINT messages_bound CHECK (id < %L) NOT VALID', boundary);
END
$$;
