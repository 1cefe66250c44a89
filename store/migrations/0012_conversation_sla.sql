-- Up Migration

SET LOCAL lock_timeout = '5s';

-- The wait that the flow's branch aims at; null: the team's target counts. No index has it: what waits tells it in its `queue_key`
-- (store/queue-key.ts).
ALTER TABLE conversations
  ADD COLUMN sla_seconds integer,
  -- As many digits as the key has room for. Not validated, which would read the table: no row from before has one.
  ADD CONSTRAINT conversations_sla_check CHECK (sla_seconds BETWEEN 1 AND 604800) NOT VALID;
