/** The house of the scenario `ingest`: a database with open conversations, and the servers that are compared, without an engine. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { extendEnvironment } from '../../platform/config.ts';
import { findFreePort } from '../../platform/ports.ts';
import { createChannel } from '../../store/channels.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { openForContacts } from '../../store/opening.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { eventually } from '../support/eventually.ts';
import { createMessage } from './ingest-load.ts';

export interface IngestHouse {
  readonly workspaceId: string;
  readonly key: string;
}

/** As many contacts as wanted, each with an open conversation. */
export async function openConversations(pool: pg.Pool, contacts: number): Promise<IngestHouse> {
  const { workspaceId, keys } = await createWorkspace(pool, { name: 'Bench' });
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });
  for (let from = 0; from < contacts; from += 500) {
    const length = Math.min(500, contacts - from);
    const items = Array.from({ length }, (_, index) => createMessage({ run: 'first', contacts }, from + index));
    const taken = await ingestMessages(
      pool,
      items.map((item) => ({ workspaceId, ...item })),
    );
    const keysOf = taken.flatMap((one) => (one.kind === 'accepted' ? [{ workspaceId, contactId: one.contactId }] : []));
    await openForContacts(pool, keysOf);
  }
  // As a database has them that has been up for a minute.
  await pool.query('ANALYZE');
  return { workspaceId, key: keys.ingest };
}

export interface IngestServer {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** @param entry from the folder of this file */
export async function startServer(entry: string, databaseUrl: string): Promise<IngestServer> {
  const port = await findFreePort();
  const child = fork(fileURLToPath(new URL(entry, import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    env: extendEnvironment({
      DATABASE_URL: databaseUrl,
      PORT: String(port),
      API_METRICS_PORT: '0',
      LOG_LEVEL: 'error',
      RATE_LIMIT_PER_SECOND: undefined,
    }),
  });
  const url = `http://127.0.0.1:${port}`;
  await eventually(`${entry} ready`, async () => child.exitCode !== null || (await fetch(`${url}/readyz`)).ok, {
    timeoutMs: 120_000,
    everyMs: 50,
  }).catch(async (error: unknown) => {
    await stopChild(child);
    throw error;
  });
  if (child.exitCode !== null) throw new Error(`${entry} ended at its start with exit code ${child.exitCode}`);
  return { url, pid: child.pid!, stop: () => stopChild(child) };
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** What is wrong with what was stored: messages lost or stored twice, gaps in the sequence (I5), messages that wait for nothing (I1). */
export async function findIngestFaults(
  pool: pg.Pool,
  { workspaceId }: IngestHouse,
  expected: number,
): Promise<string[]> {
  const { rows } = await pool.query<Record<string, number>>(
    `WITH contact AS (
       SELECT c.last_sequence, count(m.id) AS messages, coalesce(max(m.sequence), 0) AS highest,
              count(DISTINCT m.sequence) AS numbers, count(*) FILTER (WHERE m.conversation_id IS NULL) AS pending
       FROM contacts c LEFT JOIN messages m ON m.workspace_id = c.workspace_id AND m.contact_id = c.id
       WHERE c.workspace_id = $1 GROUP BY c.id, c.last_sequence
     )
     SELECT coalesce(sum(messages), 0)::bigint AS messages, coalesce(sum(pending), 0)::bigint AS pending,
            count(*) FILTER (WHERE messages <> highest OR messages <> numbers OR messages <> last_sequence) AS gaps,
            (SELECT count(*) FROM message_keys WHERE workspace_id = $1) AS keys,
            (SELECT count(*) FROM messages m
             LEFT JOIN conversations v USING (workspace_id, contact_id)
             WHERE workspace_id = $1 AND v.id IS DISTINCT FROM m.conversation_id) AS misplaced,
            (SELECT count(*) FROM events WHERE workspace_id = $1 AND type = 'message.received') AS events
     FROM contact`,
    [workspaceId],
  );
  const { messages, pending, gaps, keys, events, misplaced } = rows[0]!;
  const faults: string[] = [];
  if (messages !== expected) faults.push(`${expected} messages were answered as stored, ${messages} are there`);
  if (keys !== messages) faults.push(`${messages} messages have ${keys} dedupe keys`);
  if (events !== messages) faults.push(`${messages} messages have ${events} events`);
  if (misplaced !== 0) faults.push(`${misplaced} messages are not in their contact's conversation`);
  if (gaps !== 0) faults.push(`I5: ${gaps} contacts have gaps in their sequence`);
  if (pending !== 0) faults.push(`I1: ${pending} messages are in no conversation, though all were open`);
  return faults;
}
