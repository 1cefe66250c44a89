/** The whole system at a set rate, with one thing grown at a time. */
import { newId } from '../../platform/id.ts';
import { insertUnchecked, insertWaiting } from '../store/waiting-rows.ts';
import type { BenchContext } from './context.ts';
import { warmUp } from './lifecycle.ts';
import { addUpCpu, summarizeStep } from './load-figures.ts';
import { startLoad } from './load.ts';
import { readMemoryMiB } from './process-cpu.ts';
import { startStage, type Stage } from './stage.ts';

export interface HouseCase {
  readonly name: string;
  /** On the large database. */
  readonly isGrown: boolean;
  readonly agents: number;
  readonly waiting: number;
  readonly workers: number;
}

export interface HouseFigures {
  readonly cpuMs: number;
  readonly cpuMsOf: Readonly<Record<string, number>>;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly memoryMiB: Readonly<Record<string, number>>;
}

export interface MeasuredHouse {
  readonly runs: readonly HouseFigures[];
  readonly faults: readonly string[];
}

/** Small in everything. */
export const baseHouse: HouseCase = { name: 'base', isGrown: false, agents: 10, waiting: 0, workers: 1 };

/** Who leaves more behind in the small database comes later. */
export function houseCases({ agents, waiting }: { agents: number; waiting: number }): HouseCase[] {
  return [
    { ...baseHouse, name: 'a long past', isGrown: true },
    { ...baseHouse, name: '2 workers', workers: 2 },
    { ...baseHouse, name: '4 workers', workers: 4 },
    { ...baseHouse, name: `${agents.toLocaleString('en')} agents`, agents },
    { ...baseHouse, name: `${waiting.toLocaleString('en')} waiting`, waiting },
  ];
}

/** All runs of a house in a row, since starting it takes longer than measuring it. */
export async function measureHouse({
  bench,
  databaseUrl,
  house,
  rate,
  seconds,
}: {
  bench: BenchContext;
  databaseUrl: string;
  house: HouseCase;
  rate: number;
  seconds: number;
}): Promise<MeasuredHouse> {
  const stage = await startStage({ bench, databaseUrl, agents: 10, workers: house.workers });
  try {
    await furnish(stage, house);
    const components = await stage.components();
    const load = await startLoad(stage, components);
    try {
      // Each worker has its own code to compile.
      await warmUp(bench, load, { contacts: 60 * house.workers, warmUpRate: 2 * rate });
      const runs: HouseFigures[] = [];
      for (let run = 1; run <= bench.runs; run += 1) {
        const step = summarizeStep(rate, await load.run({ rate, seconds, leadInSeconds: 1, arrivals: 'even' }));
        const { 'load generator': _generator, ...cpu } = step.cpuPerConversationMs;
        runs.push({
          cpuMs: addUpCpu(cpu),
          cpuMsOf: cpu,
          perSecond: step.completedPerSecond,
          p50Ms: step.openToAssignedMs.p50 ?? Infinity,
          p99Ms: step.openToAssignedMs.p99 ?? Infinity,
          memoryMiB: Object.fromEntries(
            components.map(({ name, pids }) => [name, pids.reduce((sum, pid) => sum + (readMemoryMiB(pid) ?? 0), 0)]),
          ),
        });
      }
      return { runs, faults: await stage.findFaults() };
    } finally {
      await load.stop();
    }
  } finally {
    await stage.stop();
  }
}

/** In the load's own workspace: who else works there, and who waits in its teams for a skill that nobody has. */
export async function furnish(
  { pool, workspaces }: Pick<Stage, 'pool' | 'workspaces'>,
  { agents, waiting }: Pick<HouseCase, 'agents' | 'waiting'>,
): Promise<void> {
  const { workspaceId, teamIds } = workspaces[0]!;
  const more = agents - 10;
  if (more > 0) {
    // Fifty to a team, as people work. All in one team is another matter: each decision reads its members.
    const ids = Array.from({ length: more }, () => newId());
    const teams = Array.from({ length: Math.ceil(more / 50) }, () => newId());
    await insertUnchecked(
      pool,
      `WITH team AS (
         INSERT INTO teams (workspace_id, id, name, strategy)
         SELECT $1, id, 'Team ' || id, 'least_loaded' FROM unnest($3::uuid[]) AS id
       ), agent AS (
         INSERT INTO agents (workspace_id, id, name, capacity) SELECT $1, id, 'Agent', 4 FROM unnest($2::uuid[]) AS id
       ), presence AS (
         INSERT INTO agent_presence (workspace_id, agent_id, status) SELECT $1, id, 'online' FROM unnest($2::uuid[]) AS id
       )
       INSERT INTO team_members (workspace_id, team_id, agent_id)
       SELECT $1, ($3::uuid[])[1 + place / 50], id
       FROM unnest($2::uuid[]) WITH ORDINALITY AS a (id, number), LATERAL (SELECT (number - 1)::int AS place) p`,
      [workspaceId, ids, teams],
    );
  }
  const page = 5_000;
  for (let done = 0; done < waiting; done += page) {
    const rows = Array.from({ length: Math.min(page, waiting - done) }, (_, index) => ({
      priority: (index % 4) * 10,
      waitedSeconds: index % 3_600,
      skills: [{ skill: `language ${index % 10}`, level: 1, preferred: false }],
    }));
    const teamId = teamIds[(done / page) % teamIds.length]!;
    await insertWaiting(pool, { workspaceId, teamId }, rows);
    // A person opened them: what a contact opened has a message.
    await pool.query(
      `WITH opened AS (
         UPDATE conversations SET source = 'user' WHERE workspace_id = $1 AND state = 'waiting' AND source = 'contact'
         RETURNING id, contact_id
       )
       UPDATE contacts c SET open_conversation_id = opened.id
       FROM opened WHERE c.workspace_id = $1 AND c.id = opened.contact_id`,
      [workspaceId],
    );
  }
}
