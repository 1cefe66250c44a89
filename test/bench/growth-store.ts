/** What the store costs beside a past: whole conversations, and messages into open ones, of contacts picked from all there are. */
import type pg from 'pg';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createPool } from '../../platform/pool.ts';
import { assignRouted } from '../../store/assignment.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages, type IngestItem } from '../../store/ingest.ts';
import { openForContact } from '../../store/opening.ts';
import { createRandom } from './assign-population.ts';
import { externalIdOf, type Past } from './growth-population.ts';
import { findPostmaster, readCpuMs } from './process-cpu.ts';

export const storeMeasures = ['conversation', 'message', 'message in a batch'] as const;
/** CPU-ms of this process and of PostgreSQL, of one. */
export type StoreFigures = Readonly<Record<(typeof storeMeasures)[number], number>>;

const connections = 4;
const batchSize = 100;

export async function measureStore(
  past: Past & { databaseUrl: string },
  { seconds }: { seconds: number },
): Promise<StoreFigures> {
  const pool = createPool(loadConfig({ DATABASE_URL: past.databaseUrl, DATABASE_POOL_SIZE: String(connections + 1) }), {
    applicationName: 'switchyard-bench',
  });
  try {
    const site = { pool, past, pick: createPicker(past.contacts), postmaster: await requirePostmaster(pool) };
    // The first calls prepare statements and compile code.
    await measure(site, 0.5, () => converse(site));
    const conversation = await measure(site, seconds, () => converse(site));
    const open = await Promise.all(Array.from({ length: 100 }, () => begin(site)));
    let next = 0;
    const nextItem = () => itemOf(site, open[next++ % open.length]!.number);
    const message = await measure(site, seconds, async () => {
      await ingestMessages(pool, [nextItem()]);
      return 1;
    });
    const batched = await measure(site, seconds, async () => {
      await ingestMessages(pool, Array.from({ length: batchSize }, nextItem));
      return batchSize;
    });
    for (const ref of open) await end(site, ref);
    return { conversation, message, 'message in a batch': batched };
  } finally {
    await pool.end();
  }
}

interface Site {
  readonly pool: pg.Pool;
  readonly past: Past;
  readonly pick: () => number;
  readonly postmaster: number;
}

interface Begun {
  readonly number: number;
  readonly contactId: string;
  readonly conversationId: string;
}

/** Nobody twice until everybody had a turn: two conversations of one contact at once there cannot be. */
function createPicker(contacts: number): () => number {
  const random = createRandom(Date.now());
  const step = 1 + 2 * Math.floor((random() * contacts) / 2);
  // Odd and no multiple of 5: it meets every number up to a power of ten once.
  const coprime = step % 5 === 0 ? step + 2 : step;
  let at = Math.floor(random() * contacts);
  return () => (at = (at + coprime) % contacts) + 1;
}

const itemOf = ({ past: { workspaceId } }: Site, number: number): IngestItem => ({
  workspaceId,
  channel: 'web',
  externalId: newId(),
  contact: { externalId: externalIdOf(number) },
  text: 'Is there any news?',
});

async function begin(site: Site): Promise<Begun> {
  const { pool, past, pick } = site;
  const number = pick();
  const [accepted] = await ingestMessages(pool, [itemOf(site, number)]);
  if (accepted?.kind !== 'accepted') throw new Error(accepted?.kind);
  const { contactId } = accepted;
  const { workspaceId } = past;
  const { phase } = await openForContact(pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(`contact ${number} is ${phase.kind}`);
  return { number, contactId, conversationId: phase.conversationId };
}

async function end({ pool, past: { workspaceId } }: Site, { contactId, conversationId }: Begun): Promise<void> {
  await requestClose(pool, { workspaceId, conversationId, agentId: null });
  await executeClose(pool, { workspaceId, contactId, conversationId });
  // As the relay does once it has told the actor.
  await pool.query('DELETE FROM outbox WHERE shard >= 0 AND workspace_id = $1 AND contact_id = $2', [
    workspaceId,
    contactId,
  ]);
}

async function converse(site: Site): Promise<number> {
  const { pool, past } = site;
  const begun = await begin(site);
  await assignRouted(pool, { workspaceId: past.workspaceId, ...begun });
  await ingestMessages(pool, [itemOf(site, begun.number)]);
  await end(site, begun);
  return 1;
}

/** @returns CPU-ms of one */
async function measure({ postmaster }: Site, seconds: number, work: () => Promise<number>): Promise<number> {
  const endsAt = performance.now() + seconds * 1_000;
  const own = process.cpuUsage();
  const server = readCpuMs(postmaster)!;
  let done = 0;
  const loop = async () => {
    while (performance.now() < endsAt) done += await work();
  };
  await Promise.all(Array.from({ length: connections }, loop));
  const { user, system } = process.cpuUsage(own);
  return ((user + system) / 1_000 + readCpuMs(postmaster)! - server) / done;
}

async function requirePostmaster(pool: pg.Pool): Promise<number> {
  const pid = await findPostmaster(pool);
  if (pid === null) throw new Error('the CPU time of PostgreSQL can be read on Linux only, and on its own machine');
  return pid;
}
