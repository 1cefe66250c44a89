-- Up Migration

-- Every table's primary key begins with the workspace, and every foreign key carries it along: a row can never point into
-- another workspace, whatever the code does. Ids are UUIDv7, made by the application.

CREATE TABLE workspaces (
  id uuid PRIMARY KEY,
  name text NOT NULL CHECK (name <> ''),
  default_team_id uuid,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE channels (
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  id uuid NOT NULL,
  key text NOT NULL,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  UNIQUE (workspace_id, key)
);

-- The lock on a team's row serialises matching: whoever queues a conversation, frees room or changes a rule holds it (I7).
CREATE TABLE teams (
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  id uuid NOT NULL,
  name text NOT NULL,
  strategy text NOT NULL CHECK (strategy IN ('round_robin', 'least_loaded')),
  last_agent_id uuid,
  version integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  UNIQUE (workspace_id, name)
) WITH (fillfactor = 70);

ALTER TABLE workspaces ADD FOREIGN KEY (id, default_team_id) REFERENCES teams (workspace_id, id);

CREATE TABLE agents (
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  id uuid NOT NULL,
  name text NOT NULL,
  capacity integer NOT NULL CHECK (capacity >= 0),
  skills jsonb NOT NULL DEFAULT '{}',
  -- What the agent's open conversations cost (I3); changed only together with the conversation it counts.
  load integer NOT NULL DEFAULT 0 CHECK (load >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id)
) WITH (fillfactor = 70);

ALTER TABLE teams ADD FOREIGN KEY (workspace_id, last_agent_id) REFERENCES agents (workspace_id, id);

-- A table of its own, so that heartbeats do not touch the row that assignment locks.
CREATE TABLE agent_presence (
  workspace_id uuid NOT NULL,
  agent_id uuid NOT NULL,
  status text NOT NULL DEFAULT 'offline' CHECK (status IN ('online', 'away', 'offline')),
  changed_at timestamptz NOT NULL DEFAULT now(),
  -- Null until the agent sends a heartbeat; set back to null when it comes online: expiry applies only to agents that send them.
  heartbeat_at timestamptz,
  PRIMARY KEY (workspace_id, agent_id),
  FOREIGN KEY (workspace_id, agent_id) REFERENCES agents (workspace_id, id)
) WITH (fillfactor = 70);

CREATE INDEX agent_presence_heartbeat ON agent_presence (heartbeat_at) WHERE status = 'online' AND heartbeat_at IS NOT NULL;

CREATE TABLE team_members (
  workspace_id uuid NOT NULL,
  team_id uuid NOT NULL,
  agent_id uuid NOT NULL,
  PRIMARY KEY (workspace_id, team_id, agent_id),
  FOREIGN KEY (workspace_id, team_id) REFERENCES teams (workspace_id, id),
  FOREIGN KEY (workspace_id, agent_id) REFERENCES agents (workspace_id, id)
);

CREATE INDEX team_members_agent ON team_members (workspace_id, agent_id);

CREATE TABLE keys (
  id text PRIMARY KEY,
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  scope text NOT NULL CHECK (scope IN ('ingest', 'agent', 'admin')),
  name text NOT NULL,
  -- SHA-256 of the secret; the secret itself is shown once and stored nowhere.
  secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
  agent_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz,
  FOREIGN KEY (workspace_id, agent_id) REFERENCES agents (workspace_id, id),
  CHECK (agent_id IS NULL OR scope = 'agent')
);

CREATE INDEX keys_workspace ON keys (workspace_id, id);

CREATE TABLE flows (
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  id uuid NOT NULL,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  draft jsonb NOT NULL,
  published_version_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id)
);

CREATE TABLE flow_versions (
  workspace_id uuid NOT NULL,
  id uuid NOT NULL,
  flow_id uuid NOT NULL,
  number integer NOT NULL,
  document jsonb NOT NULL,
  -- Whether a step of it leaves the house: the actor then enriches by a regular activity instead of a local one.
  uses_network boolean NOT NULL,
  published_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  UNIQUE (workspace_id, flow_id, number),
  UNIQUE (workspace_id, flow_id, id),
  FOREIGN KEY (workspace_id, flow_id) REFERENCES flows (workspace_id, id)
);

ALTER TABLE flows ADD FOREIGN KEY (workspace_id, id, published_version_id) REFERENCES flow_versions (workspace_id, flow_id, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is immutable', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER flow_versions_immutable BEFORE UPDATE OR DELETE ON flow_versions
  FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- The lock on a contact's row gives order: its open conversation and its next sequence number are decided under it (I2, I5).
CREATE TABLE contacts (
  workspace_id uuid NOT NULL REFERENCES workspaces (id),
  id uuid NOT NULL,
  name text,
  attributes jsonb NOT NULL DEFAULT '{}',
  open_conversation_id uuid,
  last_sequence bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id)
) WITH (fillfactor = 80);

CREATE TABLE contact_identities (
  workspace_id uuid NOT NULL,
  channel_id uuid NOT NULL,
  external_id text NOT NULL,
  contact_id uuid NOT NULL,
  PRIMARY KEY (workspace_id, channel_id, external_id),
  FOREIGN KEY (workspace_id, channel_id) REFERENCES channels (workspace_id, id),
  FOREIGN KEY (workspace_id, contact_id) REFERENCES contacts (workspace_id, id)
);

CREATE INDEX contact_identities_contact ON contact_identities (workspace_id, contact_id);

CREATE TABLE conversations (
  workspace_id uuid NOT NULL,
  id uuid NOT NULL,
  contact_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('enriching', 'routing', 'waiting', 'assigned', 'closed')),
  source text NOT NULL CHECK (source IN ('contact', 'user', 'api')),
  priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 100),
  -- Units of an agent's capacity that this conversation takes while it is assigned.
  -- Draining relies on all costing the same.
  units integer NOT NULL DEFAULT 1 CHECK (units = 1),
  team_id uuid,
  agent_id uuid,
  flow_version_id uuid,
  fields jsonb NOT NULL DEFAULT '{}',
  -- Why the flow could not decide, where it could not: the conversation then went to the default team.
  fallback_reason text,
  forced boolean NOT NULL DEFAULT false,
  version integer NOT NULL DEFAULT 1,
  opened_at timestamptz NOT NULL DEFAULT now(),
  routed_at timestamptz,
  -- Kept through requeue and transfer, so that nobody loses the place in the queue.
  waiting_since timestamptz,
  assigned_at timestamptz,
  close_requested_at timestamptz,
  close_category text,
  close_summary text,
  closed_at timestamptz,
  -- When the flow last went on; the house timer looks for what stands still.
  progressed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  UNIQUE (workspace_id, contact_id, id),
  FOREIGN KEY (workspace_id, contact_id) REFERENCES contacts (workspace_id, id),
  FOREIGN KEY (workspace_id, team_id) REFERENCES teams (workspace_id, id),
  FOREIGN KEY (workspace_id, agent_id) REFERENCES agents (workspace_id, id),
  FOREIGN KEY (workspace_id, flow_version_id) REFERENCES flow_versions (workspace_id, id),
  CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
  CHECK (state <> 'closed' OR close_requested_at IS NOT NULL),
  CHECK (state <> 'assigned' OR (agent_id IS NOT NULL AND assigned_at IS NOT NULL)),
  CHECK (agent_id IS NULL OR state IN ('assigned', 'closed')),
  CHECK (state <> 'waiting' OR (team_id IS NOT NULL AND waiting_since IS NOT NULL))
) WITH (fillfactor = 70);

-- I2: a contact never has two open conversations.
CREATE UNIQUE INDEX conversations_one_open ON conversations (workspace_id, contact_id) WHERE closed_at IS NULL;
CREATE INDEX conversations_waiting ON conversations (workspace_id, team_id, priority DESC, waiting_since, id)
  WHERE state = 'waiting' AND close_requested_at IS NULL;
CREATE INDEX conversations_stalled ON conversations (progressed_at)
  WHERE state IN ('enriching', 'routing') OR (close_requested_at IS NOT NULL AND closed_at IS NULL);
CREATE INDEX conversations_agent ON conversations (workspace_id, agent_id, id);
CREATE INDEX conversations_team ON conversations (workspace_id, team_id, id);
-- What an agent or a team has open is the most frequent list. Through the indexes over all their conversations it read years of closed
-- ones, through the one by state everybody's open ones: 79 ms for an agent's five among 50,000 assigned, 0.1 ms by these.
CREATE INDEX conversations_open_by_agent ON conversations (workspace_id, agent_id, id) WHERE closed_at IS NULL;
CREATE INDEX conversations_open_by_team ON conversations (workspace_id, team_id, id) WHERE closed_at IS NULL;
CREATE INDEX conversations_open_by_state ON conversations (workspace_id, state, id) WHERE closed_at IS NULL;

ALTER TABLE contacts ADD FOREIGN KEY (workspace_id, id, open_conversation_id)
  REFERENCES conversations (workspace_id, contact_id, id);

CREATE TABLE messages (
  workspace_id uuid NOT NULL,
  id uuid NOT NULL,
  contact_id uuid NOT NULL,
  conversation_id uuid,
  direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
  sequence bigint NOT NULL CHECK (sequence > 0),
  channel_id uuid,
  external_id text,
  agent_id uuid,
  text text,
  attachments jsonb,
  sent_at timestamptz,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, id),
  UNIQUE (workspace_id, contact_id, sequence),
  FOREIGN KEY (workspace_id, contact_id) REFERENCES contacts (workspace_id, id),
  FOREIGN KEY (workspace_id, contact_id, conversation_id) REFERENCES conversations (workspace_id, contact_id, id),
  FOREIGN KEY (workspace_id, channel_id) REFERENCES channels (workspace_id, id),
  FOREIGN KEY (workspace_id, agent_id) REFERENCES agents (workspace_id, id),
  -- A reply always belongs to a conversation; a contact's message may still wait for one.
  CHECK (direction = 'inbound' OR conversation_id IS NOT NULL)
);

CREATE INDEX messages_conversation ON messages (workspace_id, conversation_id, sequence) WHERE conversation_id IS NOT NULL;
CREATE INDEX messages_pending ON messages (workspace_id, contact_id, sequence) WHERE conversation_id IS NULL;

-- Dedupe keys have tables of their own: messages can then be partitioned by time without the key having to hold the time.
CREATE TABLE message_keys (
  workspace_id uuid NOT NULL,
  channel_id uuid NOT NULL,
  external_id text NOT NULL,
  contact_id uuid NOT NULL,
  message_id uuid NOT NULL,
  PRIMARY KEY (workspace_id, channel_id, external_id)
);

CREATE TABLE reply_keys (
  workspace_id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  external_id text NOT NULL,
  message_id uuid NOT NULL,
  PRIMARY KEY (workspace_id, conversation_id, external_id)
);

-- What actors must still be told. Narrow and short-lived: vacuum early, or dead rows slow the claim down.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  shard smallint NOT NULL,
  workspace_id uuid NOT NULL,
  contact_id uuid NOT NULL,
  -- Null: messages wait. Set: this conversation is to be closed.
  close_conversation_id uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX outbox_shard ON outbox (shard, id);

CREATE TABLE leases (
  name text PRIMARY KEY,
  owner uuid NOT NULL,
  expires_at timestamptz NOT NULL
);

-- The feed: everything that happens to a conversation, written in the transaction in which it happens, while its lock is
-- held. Ids therefore follow the order of happening; store/events.ts says how a reader avoids rows that commit late.
CREATE TABLE events (
  workspace_id uuid NOT NULL,
  id bigint GENERATED ALWAYS AS IDENTITY,
  type text NOT NULL,
  conversation_id uuid,
  contact_id uuid,
  data jsonb NOT NULL DEFAULT '{}',
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (workspace_id, id)
);

-- I6: each conversation closes once.
CREATE UNIQUE INDEX events_closed_once ON events (workspace_id, conversation_id) WHERE type = 'conversation.closed';

CREATE TABLE decisions (
  workspace_id uuid NOT NULL,
  id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('enrichment', 'routing', 'assignment')),
  detail jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, conversation_id, id),
  FOREIGN KEY (workspace_id, conversation_id) REFERENCES conversations (workspace_id, id)
);
