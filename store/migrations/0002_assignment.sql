-- Up Migration

-- Rather give up and be started again than let everybody queue behind a lock that waits for some long reader.
SET LOCAL lock_timeout = '5s';

-- Rules that a business sets. Their shapes are checked where they are written (api/); what is left out has the default that
-- routing/team-rules.ts and store/settings.ts state.
ALTER TABLE workspaces
  ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
  -- Set when a rule changed that clocks depend on: whoever keeps the clocks looks at every open conversation again.
  ADD COLUMN review_at timestamptz;

CREATE INDEX workspaces_review ON workspaces (review_at) WHERE review_at IS NOT NULL;

CREATE TABLE close_categories (
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  id uuid NOT NULL,
  name text NOT NULL CHECK (name <> ''),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  UNIQUE (workspace_id, name)
);

ALTER TABLE channels
  -- What a conversation that begins on this channel takes of an agent's capacity.
  ADD COLUMN units integer NOT NULL DEFAULT 1 CHECK (units BETWEEN 1 AND 100);

ALTER TABLE teams
  DROP CONSTRAINT teams_strategy_check,
  ADD CONSTRAINT teams_strategy_check
    CHECK (strategy IN ('round_robin', 'least_loaded', 'longest_idle', 'most_skilled', 'priority_list')),
  ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN review_at timestamptz;

CREATE INDEX teams_review ON teams (review_at) WHERE review_at IS NOT NULL;

ALTER TABLE agents
  -- Most conversations at once by the key of the channel, where that is limited, and how many there are.
  ADD COLUMN channel_limits jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN channel_loads jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN last_assigned_at timestamptz,
  -- Offers in a row that ran out unanswered.
  ADD COLUMN missed_offers integer NOT NULL DEFAULT 0 CHECK (missed_offers >= 0);

-- When the agent counts as silent; null for one that sends no heartbeats.
ALTER TABLE agent_presence ADD COLUMN expires_at timestamptz;
UPDATE agent_presence SET expires_at = heartbeat_at + interval '60 s' WHERE heartbeat_at IS NOT NULL;
DROP INDEX agent_presence_heartbeat;
CREATE INDEX agent_presence_expiry ON agent_presence (expires_at) WHERE status = 'online' AND expires_at IS NOT NULL;

ALTER TABLE conversations
  DROP CONSTRAINT conversations_units_check,
  ADD CONSTRAINT conversations_units_check CHECK (units BETWEEN 1 AND 100),
  -- Key of the channel it began on; null where a person opened it and nothing had been written.
  ADD COLUMN channel text,
  -- What the flow's branch asks of an agent, and the rings that relax it (routing/requirements.ts).
  ADD COLUMN requirements jsonb NOT NULL DEFAULT '{"skills": [], "rings": []}',
  -- How many of the rings it has passed in this stay in the queue, and when that began.
  ADD COLUMN ring smallint NOT NULL DEFAULT 0,
  ADD COLUMN queued_at timestamptz,
  -- Equal for all that the same agents may take (store/queue-key.ts).
  ADD COLUMN queue_key text COLLATE "C" NOT NULL DEFAULT '',
  ADD COLUMN preferred_agent_id uuid,
  -- Until awaited_until nobody but this agent may take it.
  ADD COLUMN awaited_agent_id uuid,
  ADD COLUMN awaited_until timestamptz,
  -- Who rejected or left it, the last one last.
  ADD COLUMN passed_over uuid[] NOT NULL DEFAULT '{}',
  ADD COLUMN offered_agent_id uuid,
  ADD COLUMN offer_expires_at timestamptz,
  -- Since when it is quiet and takes nothing of the agent's capacity.
  ADD COLUMN quiet_since timestamptz,
  -- The agent went offline: when it goes back to the queue.
  ADD COLUMN return_at timestamptz,
  -- The next moment at which time alone changes something, and what (routing/clocks.ts).
  ADD COLUMN due_at timestamptz,
  ADD COLUMN due_kind text,
  ADD COLUMN close_reason text,
  ADD FOREIGN KEY (workspace_id, preferred_agent_id) REFERENCES agents (workspace_id, id),
  ADD FOREIGN KEY (workspace_id, awaited_agent_id) REFERENCES agents (workspace_id, id),
  ADD FOREIGN KEY (workspace_id, offered_agent_id) REFERENCES agents (workspace_id, id),
  ADD CHECK (offered_agent_id IS NULL OR (state = 'waiting' AND offer_expires_at IS NOT NULL)),
  ADD CHECK (awaited_agent_id IS NULL OR (state = 'waiting' AND awaited_until IS NOT NULL)),
  ADD CHECK (quiet_since IS NULL OR state IN ('assigned', 'closed')),
  ADD CHECK ((due_at IS NULL) = (due_kind IS NULL)),
  ADD CHECK (due_at IS NULL OR state IN ('waiting', 'assigned'));

UPDATE conversations SET queued_at = waiting_since WHERE state = 'waiting';

-- The queue of a team: those that the same agents may take stand together, in the order in which they are served.
DROP INDEX conversations_waiting;
CREATE INDEX conversations_queue ON conversations (
  workspace_id, team_id, coalesce(awaited_agent_id, '00000000-0000-0000-0000-000000000000'::uuid), queue_key, priority,
  waiting_since, id
) WHERE state = 'waiting' AND close_requested_at IS NULL AND offered_agent_id IS NULL;
CREATE INDEX conversations_offered ON conversations (workspace_id, offered_agent_id) WHERE offered_agent_id IS NOT NULL;
CREATE INDEX conversations_due ON conversations (due_at) WHERE due_at IS NOT NULL AND close_requested_at IS NULL;

ALTER TABLE outbox
  -- Set: its contact wrote again, so this quiet conversation is to count again.
  ADD COLUMN wake_conversation_id uuid;

CREATE INDEX outbox_wakes ON outbox (shard, id) WHERE wake_conversation_id IS NOT NULL;
