-- Up Migration

-- The table so far becomes the first partition, as it is: its rows are neither moved nor read, because the constraint validated before
-- proves that they belong there, and its keys and indexes are taken over.
SET LOCAL lock_timeout = '5s';

ALTER TABLE messages RENAME TO messages_before;
ALTER INDEX messages_pkey RENAME TO messages_before_pkey;
ALTER INDEX messages_conversation RENAME TO messages_before_conversation;
ALTER INDEX messages_pending RENAME TO messages_before_pending;
ALTER INDEX messages_workspace_id_contact_id_sequence_key RENAME TO messages_before_sequence;

-- By id and not by received_at: an id holds its time, and the primary key of a partitioned table must hold what it is partitioned by.
-- Constraints have the names that they have in the first partition, which would else not fit.
CREATE TABLE messages (
  workspace_id uuid NOT NULL,
  id uuid NOT NULL,
  contact_id uuid NOT NULL,
  conversation_id uuid,
  direction text NOT NULL CONSTRAINT messages_direction_check CHECK (direction IN ('inbound', 'outbound')),
  sequence bigint NOT NULL CONSTRAINT messages_sequence_check CHECK (sequence > 0),
  channel_id uuid,
  external_id text,
  agent_id uuid,
  text text,
  attachments jsonb,
  sent_at timestamptz,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  CONSTRAINT messages_workspace_id_contact_id_fkey
    FOREIGN KEY (workspace_id, contact_id) REFERENCES contacts (workspace_id, id),
  CONSTRAINT messages_workspace_id_contact_id_conversation_id_fkey
    FOREIGN KEY (workspace_id, contact_id, conversation_id) REFERENCES conversations (workspace_id, contact_id, id),
  CONSTRAINT messages_workspace_id_channel_id_fkey
    FOREIGN KEY (workspace_id, channel_id) REFERENCES channels (workspace_id, id),
  CONSTRAINT messages_workspace_id_agent_id_fkey
    FOREIGN KEY (workspace_id, agent_id) REFERENCES agents (workspace_id, id),
  CONSTRAINT messages_check CHECK (direction = 'inbound' OR conversation_id IS NOT NULL)
) PARTITION BY RANGE (id);

CREATE INDEX messages_conversation ON messages (workspace_id, conversation_id, sequence) WHERE conversation_id IS NOT NULL;
CREATE INDEX messages_pending ON messages (workspace_id, contact_id, sequence) WHERE conversation_id IS NULL;

DO $$
BEGIN
  EXECUTE format(
    'ALTER TABLE messages ATTACH PARTITION messages_before FOR VALUES FROM (MINVALUE) TO (%L)',
    (SELECT substring(pg_get_constraintdef(oid) FROM '''([0-9a-f-]{36})''') FROM pg_constraint
     WHERE conrelid = 'messages_before'::regclass AND conname = 'messages_bound')
  );
END
$$;
ALTER TABLE messages_before DROP CONSTRAINT messages_bound;

-- I5 within a partition: no contact has a number twice. No index can say so across partitions, since it would have to hold the id. There the
-- contact's row holds it: numbers are drawn from contacts.last_sequence under its lock, and nowhere else.
CREATE TABLE messages_stray (LIKE messages INCLUDING CONSTRAINTS INCLUDING DEFAULTS);
CREATE UNIQUE INDEX messages_stray_sequence ON messages_stray (workspace_id, contact_id, sequence);

-- For ids of a clock that is far off: a message is never refused because its month has no partition. Else it stays empty, and a metric
-- tells when it is not.
ALTER TABLE messages ATTACH PARTITION messages_stray DEFAULT;

-- Adds the month in which `at` lies, with what strayed of it, unless it is there. Its lock on the table lets everybody else read and write; those on the
-- default partition and on what messages point to do not, but last milliseconds. The caller sets lock_timeout.
CREATE FUNCTION create_message_partition(at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  lower_bound timestamptz := date_trunc('month', at, 'UTC');
  upper_bound timestamptz := date_trunc('month', lower_bound + interval '40 days', 'UTC');
  partition text := 'messages_' || to_char(lower_bound AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
  -- One at a time: two workers at once find the other's.
  PERFORM pg_advisory_xact_lock(hashtext('create_message_partition'));
  IF to_regclass(partition) IS NOT NULL THEN
    RETURN NULL;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE messages INCLUDING CONSTRAINTS INCLUDING DEFAULTS)', partition);
  EXECUTE format(
    'WITH strayed AS (DELETE FROM messages_stray WHERE id >= %L AND id < %L RETURNING *) INSERT INTO %I SELECT * FROM strayed',
    message_id_at(lower_bound), message_id_at(upper_bound), partition
  );
  EXECUTE format(
    'CREATE UNIQUE INDEX %I ON %I (workspace_id, contact_id, sequence)', partition || '_sequence', partition
  );
  EXECUTE format(
    'ALTER TABLE messages ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
    partition, message_id_at(lower_bound), message_id_at(upper_bound)
  );
  RETURN partition;
END
$$;

-- From the boundary on; the worker makes those that follow.
SELECT create_message_partition(month)
FROM generate_series(
  date_trunc('month', now() + interval '1 month 7 days', 'UTC'), now() + interval '4 months', interval '1 month'
) AS month;
