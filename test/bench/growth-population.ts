/**
 * A house with a past: contacts, two closed conversations of five messages each, and all that the store keeps of them, spread over twelve
 * months. It is made inside the server by `INSERT … SELECT`, which spares the client and the parsing that `COPY` would need, month by month and in
 * the order of the ids, so that every index grows at its end.
 */
import pg from 'pg';
import { newId } from '../../platform/id.ts';

export interface Past {
  readonly workspaceId: string;
  readonly teamId: string;
  readonly contacts: number;
}

/** Contact `number`, from 1 on, on the channel `web`. */
export const externalIdOf = (number: number): string => `past-${number}`;

/**
 * Makes a past, or goes on with one that was begun and interrupted; one that is whole is left alone. Only into a database that was just migrated:
 * the months gone by get a partition each, in place of the one for all of them.
 *
 * @param maxSeconds ends after the step under way, so that a shared machine is not taken for long
 * @returns null when that was reached
 */
export async function makePast(
  databaseUrl: string,
  { contacts, note, maxSeconds = Infinity }: { contacts: number; note: (line: string) => void; maxSeconds?: number },
): Promise<Past | null> {
  const beganAt = performance.now();
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const past = await begin(client, contacts);
    if (past.whole) return past;
    await prepare(client, note);
    for (const [index, step] of steps.entries()) {
      if (index < past.done) continue;
      if (performance.now() - beganAt > maxSeconds * 1_000) return null;
      const { told, seconds } = await carryOut(client, step, index);
      // A small past would else be seventy lines.
      if (seconds > 1) note(`${index + 1}/${steps.length} ${told} in ${seconds.toFixed(1)} s`);
    }
    note('vacuum and statistics');
    await client.query('VACUUM (FREEZE, ANALYZE)');
    await client.query('UPDATE past SET whole = true');
    return past;
  } finally {
    await client.end();
  }
}

/** Kept beside what it describes, so that both are there or neither. */
async function begin(client: pg.Client, contacts: number): Promise<Past & { done: number; whole: boolean }> {
  await client.query(
    `CREATE TABLE IF NOT EXISTS past (
       workspace_id uuid, team_id uuid, agent_id uuid, channel_id uuid, contacts int, began_at timestamptz,
       done int DEFAULT 0, whole boolean DEFAULT false)`,
  );
  await client.query(
    `INSERT INTO past (workspace_id, team_id, agent_id, channel_id, contacts, began_at)
     SELECT $1, $2, $3, $4, $5, now() - ${months} * interval '30 days' WHERE NOT EXISTS (SELECT FROM past)`,
    [newId(), newId(), newId(), newId(), contacts],
  );
  const { rows } = await client.query<Past & { done: number; whole: boolean }>(
    `SELECT workspace_id AS "workspaceId", team_id AS "teamId", contacts, done, whole FROM past`,
  );
  const [past] = rows;
  if (past?.contacts !== contacts) throw new Error(`this database holds the past of ${past?.contacts} contacts`);
  return past;
}

async function prepare(client: pg.Client, note: (line: string) => void): Promise<void> {
  const { rows } = await client.query<{ is: boolean }>(
    `SELECT rolsuper AS is FROM pg_roles WHERE rolname = current_user`,
  );
  // What is made here is right by construction, and to check each row's foreign keys takes longer than to write it.
  if (rows[0]?.is === true) await client.query('SET session_replication_role = replica');
  else note('the role is no superuser: every foreign key is checked, which takes several times as long');
  await client.query('SET synchronous_commit = off');
  await client.query(`
    CREATE FUNCTION pg_temp.id_at(at timestamptz, kind text, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
      SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || kind || '8000'
              || lpad(to_hex(number), 12, '0'))::uuid
    $$`);
}

async function carryOut(client: pg.Client, { what, text, month }: Step, index: number) {
  const startedAt = performance.now();
  await client.query('BEGIN');
  const { rowCount } = await client.query(text, month === null ? [] : [month]);
  await client.query('UPDATE past SET done = $1', [index + 1]);
  await client.query('COMMIT');
  const ofMonth = month === null ? '' : ` of month ${month + 1}`;
  const told = `${what}${ofMonth}: ${(rowCount ?? 0).toLocaleString('en')}`;
  return { told, seconds: (performance.now() - startedAt) / 1_000 };
}

interface Step {
  readonly what: string;
  readonly text: string;
  /** Set: it is the statement's $1. */
  readonly month: number | null;
}

const months = 12;

const onceOnly = {
  'partition for all months gone by': 'DROP TABLE messages_before',
  'partitions, one a month': `
    SELECT create_message_partition(month)
    FROM past, generate_series(date_trunc('month', began_at, 'UTC'), now(), interval '1 month') AS month`,
  workspace: `INSERT INTO workspaces (id, name) SELECT workspace_id, 'Past' FROM past`,
  team: `
    INSERT INTO teams (workspace_id, id, name, strategy) SELECT workspace_id, team_id, 'Default', 'least_loaded' FROM past`,
  'default team': `UPDATE workspaces w SET default_team_id = past.team_id FROM past WHERE w.id = past.workspace_id`,
  agent: `INSERT INTO agents (workspace_id, id, name, capacity) SELECT workspace_id, agent_id, 'Retired', 0 FROM past`,
  presence: `INSERT INTO agent_presence (workspace_id, agent_id) SELECT workspace_id, agent_id FROM past`,
  channel: `INSERT INTO channels (workspace_id, id, key, name) SELECT workspace_id, channel_id, 'web', 'Web' FROM past`,
  contacts: `
    INSERT INTO contacts (workspace_id, id, name, attributes, last_sequence, created_at)
    SELECT workspace_id, pg_temp.id_at(began_at, '0c0', n), 'Contact ' || n,
           jsonb_build_object('plan', 'basic', 'city', 'City ' || n % 100), 10, began_at
    FROM past, generate_series(1, contacts) AS n`,
  identities: `
    INSERT INTO contact_identities (workspace_id, channel_id, external_id, contact_id)
    SELECT workspace_id, channel_id, 'past-' || n, pg_temp.id_at(began_at, '0c0', n)
    FROM past, generate_series(1, contacts) AS n`,
};

// Contact n talks in one month of the first half of the year, and half a year later again.
const talks = `
  WITH talk AS (
    SELECT past.*, n, k, begin.at, pg_temp.id_at(began_at, '0c0', n) AS contact_id,
           pg_temp.id_at(begin.at, '0c1', n::bigint * 2 + k) AS conversation_id
    FROM past
    CROSS JOIN generate_series(1, contacts) AS n
    CROSS JOIN (SELECT $1::int / ${months / 2}) AS half (k)
    CROSS JOIN LATERAL (
      SELECT began_at + $1::int * interval '30 days' + n * (interval '29 days' / contacts) AS at
    ) begin
    WHERE n % ${months / 2} = $1::int % ${months / 2}
  )`;

const everyMonth = {
  conversations: `${talks}
    INSERT INTO conversations (workspace_id, id, contact_id, state, source, team_id, agent_id, opened_at, routed_at, waiting_since,
                               queued_at, assigned_at, close_requested_at, closed_at, close_category, progressed_at, channel)
    SELECT workspace_id, conversation_id, contact_id, 'closed', 'contact', team_id, agent_id, at, at, at, at, at,
           at + interval '1 h', at + interval '1 h', 'Solved', at + interval '1 h', 'web'
    FROM talk`,
  messages: `${talks}
    INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, channel_id, external_id, agent_id,
                          text, received_at)
    SELECT workspace_id, pg_temp.id_at(at + s * interval '1 s', '0c2', n::bigint * 10 + k * 5 + s), contact_id, conversation_id,
           CASE WHEN s IN (3, 5) THEN 'outbound' ELSE 'inbound' END, k * 5 + s, channel_id,
           CASE WHEN s NOT IN (3, 5) THEN 'past-' || n || '-' || k * 5 + s END, CASE WHEN s IN (3, 5) THEN agent_id END,
           'The order that I placed last week has not arrived; could you look where it is? Number ' || n,
           at + s * interval '1 s'
    FROM talk CROSS JOIN generate_series(1, 5) AS s`,
  'dedupe keys': `${talks}
    INSERT INTO message_keys (workspace_id, channel_id, external_id, contact_id, message_id)
    SELECT workspace_id, channel_id, 'past-' || n || '-' || k * 5 + s, contact_id,
           pg_temp.id_at(at + s * interval '1 s', '0c2', n::bigint * 10 + k * 5 + s)
    FROM talk CROSS JOIN unnest('{1,2,4}'::int[]) AS s`,
  events: `${talks}
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data, at)
    SELECT workspace_id, type, conversation_id, contact_id,
           CASE WHEN starts_with(type, 'message') THEN jsonb_build_object('messageId', conversation_id, 'sequence', k)
                ELSE jsonb_build_object('agentId', agent_id, 'teamId', team_id) END, at
    FROM talk CROSS JOIN unnest('{conversation.opened,message.received,message.received,conversation.assigned,message.sent,
      message.received,message.sent,conversation.close_requested,conversation.closed}'::text[]) AS type`,
  decisions: `${talks}
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail, at)
    SELECT workspace_id, pg_temp.id_at(at, '0c3', n::bigint * 4 + k * 2 + d), conversation_id,
           CASE d WHEN 0 THEN 'routing' ELSE 'assignment' END,
           CASE d WHEN 0 THEN jsonb_build_object('teamId', team_id, 'branch', NULL, 'reason', 'no published flow matches')
                  ELSE jsonb_build_object('agentId', agent_id, 'strategy', 'least_loaded', 'candidates', jsonb_build_array(
                         jsonb_build_object('agentId', agent_id, 'load', 1, 'capacity', 4, 'presence', 'online'))) END, at
    FROM talk CROSS JOIN generate_series(0, 1) AS d`,
};

const steps: readonly Step[] = [
  ...Object.entries(onceOnly).map(([what, text]) => ({ what, text, month: null })),
  ...Array.from({ length: months }, (_, month) =>
    Object.entries(everyMonth).map(([what, text]) => ({ what, text, month })),
  ).flat(),
];
