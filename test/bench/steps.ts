/**
 * What opening and routing cost at the store: as sets of one, ten and a hundred, and through the batches that actors share, with as many actors
 * at once. CPU time per conversation, in this process and in PostgreSQL, and round trips.
 */
import type pg from 'pg';
import { createActivityMetrics } from '../../activities/activity-metrics.ts';
import { createStepBatches } from '../../activities/step-batches.ts';
import { newId } from '../../platform/id.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { createChannel } from '../../store/channels.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { openForContacts } from '../../store/opening.ts';
import { routeByFlows } from '../../store/routing.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import type { ConversationRef, StepActivities } from '../../workflows/contract.ts';
import type { BenchContext } from './context.ts';
import { formatFineMs, median, type ScenarioReport } from './figures.ts';
import { findPostmaster, readCpuMs } from './process-cpu.ts';

export interface StepsOptions {
  readonly sizes: readonly number[];
  readonly conversations: number;
}

const defaults: StepsOptions = { sizes: [1, 10, 100], conversations: 2_000 };

export async function runSteps(
  { server, note, runs }: BenchContext,
  { sizes, conversations }: StepsOptions = defaults,
): Promise<ScenarioReport> {
  const databaseUrl = await server.createDatabase('steps');
  const pool = createPool({ databaseUrl, databasePoolSize: 8 }, { applicationName: 'bench-steps' });
  try {
    const roundTrips = countRoundTrips(pool);
    const meter = await createMeter(pool, roundTrips);
    const write = await createWriter(pool);
    const figures: StepFigures[] = [];
    for (const size of sizes) {
      for (const way of ways(pool)) {
        const results: Measured[] = [];
        for (let run = 0; run < runs; run += 1) {
          // Not measured: connections, prepared statements, compiled conditions.
          await way.run(await write(size * 2), size);
          const contacts = await write(conversations);
          results.push(await meter(conversations, () => way.run(contacts, size)));
        }
        const figure = { way: way.name, size, ...medians(results) };
        note(
          `${figure.way}, ${size} at once: ${formatFineMs(figure.nodeMs)} here, ${figure.roundTrips.toFixed(2)} round trips`,
        );
        figures.push(figure);
      }
    }
    return { tables: [tableOf(figures)], figures, verdicts: [], faults: await findFaults(pool) };
  } finally {
    await pool.end();
  }
}

interface Contact {
  readonly workspaceId: string;
  readonly contactId: string;
}

interface Way {
  readonly name: string;
  run(contacts: readonly Contact[], size: number): Promise<void>;
}

const ways = (pool: pg.Pool): readonly Way[] => [
  {
    name: 'sets',
    async run(contacts, size) {
      for (let from = 0; from < contacts.length; from += size) {
        const members = contacts.slice(from, from + size);
        const openings = await openForContacts(pool, members);
        const opened = openings.flatMap(({ phase }, place): ConversationRef[] =>
          phase.kind === 'routing' ? [{ ...members[place]!, conversationId: phase.conversationId }] : [],
        );
        await routeByFlows(pool, opened);
      }
    },
  },
  {
    name: 'actors',
    async run(contacts, size) {
      const steps = createStepBatches({ pool, metrics: createActivityMetrics(createMetrics({ component: 'worker' })) });
      let next = 0;
      const work = async (): Promise<void> => {
        while (next < contacts.length) await openAndRoute(steps, contacts[next++]!);
      };
      await Promise.all(Array.from({ length: size }, work));
    },
  },
];

async function openAndRoute(steps: StepActivities, contact: Contact): Promise<void> {
  const phase = await steps.openConversation(contact);
  if (phase.kind === 'routing') await steps.routeConversation({ ...contact, conversationId: phase.conversationId });
}

interface Measured {
  readonly wallMs: number;
  readonly nodeMs: number;
  readonly postgresMs: number;
  readonly roundTrips: number;
}

interface StepFigures extends Measured {
  readonly way: string;
  readonly size: number;
}

/** All per conversation. */
async function createMeter(pool: pg.Pool, readRoundTrips: () => number) {
  const postmaster = await findPostmaster(pool);
  const postgresMs = (): number => (postmaster === null ? NaN : (readCpuMs(postmaster) ?? NaN));
  return async (conversations: number, run: () => Promise<void>): Promise<Measured> => {
    const before = { at: performance.now(), node: process.cpuUsage(), postgres: postgresMs(), trips: readRoundTrips() };
    await run();
    const { user, system } = process.cpuUsage(before.node);
    return {
      wallMs: (performance.now() - before.at) / conversations,
      nodeMs: (user + system) / 1_000 / conversations,
      postgresMs: (postgresMs() - before.postgres) / conversations,
      roundTrips: (readRoundTrips() - before.trips) / conversations,
    };
  };
}

function countRoundTrips(pool: pg.Pool): () => number {
  let count = 0;
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    Object.assign(client, {
      query(...args: unknown[]) {
        count += 1;
        return query(...args);
      },
    });
  });
  return () => count;
}

function medians(results: readonly Measured[]): Measured {
  const of = (what: keyof Measured) => median(results.map((result) => result[what]));
  return { wallMs: of('wallMs'), nodeMs: of('nodeMs'), postgresMs: of('postgresMs'), roundTrips: of('roundTrips') };
}

/** Four workspaces with a flow of two branches each. @returns writes one message each of so many new contacts */
async function createWriter(pool: pg.Pool): Promise<(contacts: number) => Promise<Contact[]>> {
  const workspaceIds = await Promise.all([0, 1, 2, 3].map(() => createHome(pool)));
  return async (contacts) => {
    const written: Contact[] = [];
    while (written.length < contacts) {
      const items = Array.from({ length: Math.min(500, contacts - written.length) }, (_, place) => ({
        workspaceId: workspaceIds[place % workspaceIds.length]!,
        channel: 'web',
        externalId: newId(),
        contact: { externalId: newId() },
        text: 'My parcel has not come, and the invoice is wrong as well',
      }));
      const results = await ingestMessages(pool, items);
      results.forEach((result, place) => {
        if (result.kind !== 'accepted') throw new Error(result.kind);
        written.push({ workspaceId: items[place]!.workspaceId, contactId: result.contactId });
      });
    }
    return written;
  };
}

async function createHome(pool: pg.Pool): Promise<string> {
  const { workspaceId, defaultTeamId: teamId } = await createWorkspace(pool, { name: 'Steps' });
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });
  const branches = ['refund', 'invoice'].map((word) => ({
    name: word,
    when: `message.text.contains('${word}')`,
    teamId,
    priority: 1,
  }));
  const created = await createFlow(pool, {
    workspaceId,
    name: 'Words',
    description: '',
    document: { routing: { branches, otherwise: { teamId, priority: 0 } } },
  });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  await publishFlow(pool, { workspaceId, flowId: created.flow.id });
  return workspaceId;
}

const tableOf = (figures: readonly StepFigures[]) => ({
  title: 'Opening and routing, per conversation',
  columns: ['', 'at once', 'CPU of Node.js', 'CPU of PostgreSQL', 'round trips', 'time'],
  rows: figures.map(({ way, size, nodeMs, postgresMs, roundTrips, wallMs }) => [
    way,
    String(size),
    formatFineMs(nodeMs),
    Number.isNaN(postgresMs) ? '?' : formatFineMs(postgresMs),
    roundTrips.toFixed(2),
    formatFineMs(wallMs),
  ]),
});

/** Everybody has one conversation that was routed once, with what was written. */
async function findFaults(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ fault: string }>(
    `SELECT 'contact ' || c.id || ' was not served as it should' AS fault
     FROM contacts c
     LEFT JOIN conversations v ON v.workspace_id = c.workspace_id AND v.contact_id = c.id
     WHERE v.routed_at IS NULL OR v.id IS DISTINCT FROM c.open_conversation_id
        OR EXISTS (SELECT FROM messages m WHERE m.workspace_id = c.workspace_id AND m.contact_id = c.id AND m.conversation_id IS NULL)
        OR 1 <> (SELECT count(*) FROM decisions d WHERE d.workspace_id = v.workspace_id AND d.conversation_id = v.id)
     LIMIT 20`,
  );
  return rows.map(({ fault }) => fault);
}
