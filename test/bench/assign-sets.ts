/**
 * What an assignment and a close cost when they come in sets, as the activities of many actors hand them over: round trips, and the CPU of this
 * process and of PostgreSQL's. In a calm house, where nobody waits and agents have room: the everyday of a workspace that keeps up.
 */
import { readFileSync } from 'node:fs';
import type pg from 'pg';
import { groupBy } from '../../platform/group-by.ts';
import { assignRouted } from '../../store/assignment.ts';
import { executeCloses } from '../../store/closing.ts';
import type { ConversationKey } from '../../store/locks.ts';
import { plainConversation } from './assign-population.ts';
import type { AssignStage } from './assign-stage.ts';
import { formatFineMs, median, type Table } from './figures.ts';

export const setSizes = [1, 10, 100] as const;
export type SetSize = (typeof setSizes)[number];

/** Of one conversation. */
export interface CostInSet {
  readonly roundTrips: number;
  readonly nodeMs: number;
  /** CPU of the connection's backend; null: PostgreSQL runs on another machine. */
  readonly postgresMs: number | null;
  readonly elapsedMs: number;
}

export interface SetCosts {
  readonly size: SetSize;
  readonly assign: CostInSet;
  readonly close: CostInSet;
}

/** Every writer has nothing to do. */
export async function calm({ population, removeConversations }: AssignStage): Promise<void> {
  const written = population.assigned.filter(({ channel }) => channel !== 'call');
  const ofAgents = groupBy(written, ({ agentId }) => agentId);
  // One of each agent at a time: the removal is an update that meets every agent once.
  for (let place = 0; ; place += 1) {
    const ids = [...ofAgents.values()].flatMap((own) => own[place]?.conversationId ?? []);
    if (ids.length === 0) return;
    await removeConversations(ids);
  }
}

/** Conversations come, are assigned, and closed, again and again. */
export async function measureSets(stage: AssignStage, size: SetSize, budgetMs: number): Promise<SetCosts> {
  const pool = stage.pools.single;
  const assign = await createMeter(pool);
  const close = await createMeter(pool);
  const { teams } = stage.population;
  while (assign.elapsedMs() + close.elapsedMs() < budgetMs) {
    const rows = Array.from({ length: 100 }, (_, i) => plainConversation(teams[i % teams.length]!.teamId, 'chat'));
    const sets = chunk(await stage.insertRouted(rows), size);
    await assign.measure(sets, async (keys) => {
      if (!(await assignRouted(pool, keys)).every(Boolean)) throw new Error('a conversation was not assigned');
    });
    await stage.requestClosesOf(rows.map(({ conversationId }) => conversationId));
    await close.measure(sets, async (keys) => {
      if (!(await executeCloses(pool, keys)).every(({ closed }) => closed)) throw new Error('one was not closed');
    });
  }
  return { size, assign: assign.cost(), close: close.cost() };
}

function chunk(keys: readonly ConversationKey[], size: number): ConversationKey[][] {
  return Array.from({ length: Math.ceil(keys.length / size) }, (_, i) => keys.slice(i * size, (i + 1) * size));
}

/** Counts what the only connection of the pool sends, and the CPU while it does. */
async function createMeter(pool: pg.Pool) {
  const client = await pool.connect();
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  client.release();
  const { pid } = rows[0]!;
  const query = client.query.bind(client) as (...args: unknown[]) => unknown;
  let items = 0;
  let roundTrips = 0;
  let nodeMs = 0;
  let postgresMs: number | null = 0;
  let elapsedMs = 0;

  async function measure(
    sets: readonly ConversationKey[][],
    work: (keys: readonly ConversationKey[]) => Promise<void>,
  ) {
    const before = { cpu: process.cpuUsage(), postgres: readBackendMs(pid), at: performance.now() };
    client.query = ((...args: unknown[]) => {
      roundTrips += 1;
      return query(...args);
    }) as typeof client.query;
    for (const keys of sets) await work(keys);
    client.query = query as typeof client.query;
    const { user, system } = process.cpuUsage(before.cpu);
    nodeMs += (user + system) / 1_000;
    const after = readBackendMs(pid);
    postgresMs =
      postgresMs === null || after === null || before.postgres === null ? null : postgresMs + after - before.postgres;
    elapsedMs += performance.now() - before.at;
    items += sets.reduce((sum, keys) => sum + keys.length, 0);
  }

  const cost = (): CostInSet => ({
    roundTrips: roundTrips / items,
    nodeMs: nodeMs / items,
    postgresMs: postgresMs === null ? null : postgresMs / items,
    elapsedMs: elapsedMs / items,
  });
  return { measure, cost, elapsedMs: () => elapsedMs };
}

/** In Linux' ticks of 10 ms: right over the many that a measurement adds up. */
function readBackendMs(pid: number): number | null {
  try {
    if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('postgres')) return null;
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return null;
  }
}

export function setsTable(rounds: readonly SetCosts[]): Table {
  const columns = ['', ...setSizes.map((size) => `sets of ${size}`)];
  const rowsOf = (what: 'assign' | 'close', title: string) =>
    (
      [
        ['round trips', ({ roundTrips }: CostInSet) => roundTrips, (value: number) => value.toFixed(2)],
        ['CPU of Node.js', ({ nodeMs }: CostInSet) => nodeMs, formatFineMs],
        ['CPU of PostgreSQL', ({ postgresMs }: CostInSet) => postgresMs ?? NaN, formatFineMs],
        ['time', ({ elapsedMs }: CostInSet) => elapsedMs, formatFineMs],
      ] as const
    ).map(([label, read, format]) => [
      `${title}: ${label}`,
      ...setSizes.map((size) => {
        const values = rounds.filter((round) => round.size === size).map((round) => read(round[what]));
        return values.some(Number.isNaN) ? 'elsewhere' : format(median(values));
      }),
    ]);
  return {
    title: 'In sets, each: a house where nobody waits (medians of rounds)',
    columns,
    rows: [...rowsOf('assign', 'assignment'), ...rowsOf('close', 'close')],
  };
}
