-- Up Migration

-- Rather give up and be started again than let everybody queue behind a lock that waits for some long reader.
SET LOCAL lock_timeout = '5s';

-- Where a channel takes what is said to its contacts, and the secret that signs it. The one before still signs, too, for a day after another was made.
ALTER TABLE channels
  ADD COLUMN outbound_url text,
  ADD COLUMN outbound_secret text,
  ADD COLUMN outbound_secret_before text,
  ADD COLUMN outbound_secret_at timestamptz,
  ADD CONSTRAINT channels_outbound_check CHECK (outbound_url IS NULL OR outbound_secret IS NOT NULL);

-- The same for the webhooks of flows; made when it is first needed.
ALTER TABLE workspaces
  ADD COLUMN webhook_secret text,
  ADD COLUMN webhook_secret_before text,
  ADD COLUMN webhook_secret_at timestamptz;

-- pending, delivered or failed; null: nobody has to be told. Without a default no row is rewritten, and without a check none is read.
ALTER TABLE messages
  ADD COLUMN delivery text,
  ADD COLUMN delivered_at timestamptz;

-- What channels and webhooks must still be told (store/deliveries.ts). As with the outbox, what is done is deleted, and vacuumed early. There are no
-- foreign keys: what they would point to is not deleted before the row, and checking them would lock it.
CREATE TABLE deliveries (
  id uuid PRIMARY KEY,
  -- The order within a conversation; drawn under its contact's lock.
  position bigint GENERATED ALWAYS AS IDENTITY,
  workspace_id uuid NOT NULL,
  contact_id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  kind text NOT NULL CONSTRAINT deliveries_kind_check CHECK (kind IN ('message', 'webhook')),
  -- Who is told: the channel, or a hash of the workspace and the webhook's host. A lane that does not answer holds up no other.
  lane uuid NOT NULL,
  message_id uuid,
  channel_id uuid,
  url text,
  -- The body, as it is sent each time.
  payload jsonb NOT NULL,
  state text NOT NULL DEFAULT 'pending' CONSTRAINT deliveries_state_check CHECK (state IN ('pending', 'failed')),
  attempts smallint NOT NULL DEFAULT 0,
  -- What it is given up by: from when it was written, or sent again by hand.
  tried_since timestamptz NOT NULL DEFAULT now(),
  -- When it is tried next; while it is claimed, when the claim ends.
  due_at timestamptz NOT NULL DEFAULT now(),
  claimed_by uuid,
  last_error text,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT deliveries_target_check CHECK (
    CASE kind WHEN 'message' THEN message_id IS NOT NULL AND channel_id IS NOT NULL ELSE url IS NOT NULL END
  )
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX deliveries_due ON deliveries (lane, due_at) WHERE state = 'pending';
CREATE INDEX deliveries_order ON deliveries (conversation_id, lane, position) WHERE state = 'pending';
CREATE INDEX deliveries_message ON deliveries (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX deliveries_list ON deliveries (workspace_id, state, id);
-- How many there are and since when, and which have failed long ago.
CREATE INDEX deliveries_age ON deliveries (state, created_at);
