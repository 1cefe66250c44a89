import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { loadConfig } from '../../platform/config.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { recordHeartbeat } from '../../store/agents.ts';
import { updateTeam } from '../../store/teams.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { expectSound, letTimePass } from '../store/passing-time.ts';
import { connectAnother } from '../store/second-pool.ts';
import { createStage, type Stage } from '../store/stage.ts';
import { startClocks, type Clocks } from '../../worker/clocks.ts';

let database: TestDatabase;
let stage: Stage;
let lines: string[];
const running: Clocks[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
});
beforeEach(async () => {
  lines = [];
  stage = await createStage(database.pool);
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((clocks) => clocks.stop()));
  await expectSound(database.pool, stage.workspaceId);
});
afterAll(() => database?.drop());

function start(pool = database.pool) {
  const metrics = createMetrics({ component: 'test' });
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  const clocks = startClocks({ pool, metrics, logger: pino(out) });
  running.push(clocks);
  const readValue = async (name: string, labels = ''): Promise<number | undefined> => {
    const page = await metrics.registry.metrics();
    const line = page.split('\n').find((text) => text.startsWith(`switchyard_${name}{`) && text.includes(labels));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
  };
  return { clocks, readValue };
}

const ring = { kind: 'fallback', then: 'wait', afterSeconds: 30 } as const;
const hasPassed = (conversationId: string) => async () => (await stage.conversation(conversationId)).ring === 1;

test('what is due is done within moments, and counted by kind', async () => {
  const teamId = await stage.addTeam('round_robin', {
    offer: { acceptSeconds: 20, maxMissed: 1 },
  });
  const agentId = await stage.addAgent(1, [teamId]);
  const offered = await stage.open(newId(), { teamId });
  const waiting = await stage.open(newId(), { rings: [ring] });
  for (const { conversationId } of [offered, waiting]) await letTimePass(database.pool, conversationId, 60);
  const { readValue } = start();
  await eventually('the ring passes', hasPassed(waiting.conversationId));
  await eventually('the offer runs out', async () => {
    const { offeredAgentId } = await stage.conversation(offered.conversationId);
    return offeredAgentId === null;
  });
  await eventually('both are counted', async () => {
    const counts = [
      await readValue('clocks_fired_total', 'kind="ring"'),
      await readValue('clocks_fired_total', 'kind="offer"'),
    ];
    return counts.every((count) => count === 1);
  });
  expect(await stage.loadOf(agentId)).toBe(0);
  await eventually('nothing is late', async () => (await readValue('clocks_oldest_due_seconds')) === 0);
});

test('silent agents are set away', async () => {
  const agentId = await stage.addAgent(1);
  await recordHeartbeat(database.pool, { workspaceId: stage.workspaceId, agentId });
  await database.pool.query('UPDATE agent_presence SET expires_at = now() WHERE agent_id = $1', [agentId]);
  start();
  await eventually('the agent is away', async () => {
    const { rows } = await database.pool.query<{ status: string }>(
      'SELECT status FROM agent_presence WHERE agent_id = $1',
      [agentId],
    );
    return rows[0]!.status === 'away';
  });
});

test('changed rules are applied to the clocks of what is assigned, and the mark goes', async () => {
  const teamId = await stage.addTeam();
  await stage.addAgent(2, [teamId]);
  const { conversationId } = await stage.open(newId(), { teamId });
  await stage.setRules(teamId, { silenceMinutes: 5 });
  const { workspaceId } = stage;
  await database.pool.query('UPDATE teams SET review_at = now() WHERE id = $1', [teamId]);
  await database.pool.query(`UPDATE workspaces SET review_at = now() - interval '1 min' WHERE id = $1`, [workspaceId]);
  start();
  await eventually('the clock is wound', async () => (await stage.conversation(conversationId)).dueKind === 'silence');
  await eventually('the marks are gone', async () => {
    const { rows } = await database.pool.query(
      `SELECT FROM teams WHERE workspace_id = $1 AND review_at IS NOT NULL
       UNION ALL SELECT FROM workspaces WHERE id = $1 AND review_at IS NOT NULL`,
      [workspaceId],
    );
    return rows.length === 0;
  });
});

test('a conversation whose clock cannot be acted on harms only itself: it is logged and put off, the others of its team go on', async () => {
  const broken = await stage.open(newId(), { rings: [ring] });
  const sound = [await stage.open(newId(), { rings: [ring] }), await stage.open(newId(), { rings: [ring] })];
  for (const { conversationId } of [broken, ...sound]) await letTimePass(database.pool, conversationId, 60);
  // What no version of this code would write.
  const rings = [{ kind: 'overflow', teamId: 'nowhere', afterSeconds: 30 }];
  await database.pool.query('UPDATE conversations SET requirements = $2 WHERE id = $1', [
    broken.conversationId,
    { skills: [], rings },
  ]);
  const { readValue } = start();
  for (const { conversationId } of sound) await eventually('the others pass', hasPassed(conversationId));
  await eventually('it is put off', async () => (await stage.conversation(broken.conversationId)).dueAt! > new Date());
  expect(lines.filter((line) => line.includes(broken.conversationId))).toHaveLength(1);
  await eventually('it is counted', async () => (await readValue('clocks_failed_total')) === 1);
});

test('of two workers one keeps the clocks; when it stops, the other takes over', async () => {
  const other = connectAnother(database);
  const workers = [start(), start(other)];
  const isKeeper = async (worker: (typeof workers)[number]) =>
    (await worker.readValue('clocks_oldest_due_seconds')) !== undefined;
  const keeper = await eventually('one keeps them', async () => {
    for (const worker of workers) if (await isKeeper(worker)) return worker;
    return undefined;
  });
  const [spare] = workers.filter((worker) => worker !== keeper);
  expect(await isKeeper(spare!)).toBe(false);
  await keeper.clocks.stop();
  expect(await isKeeper(keeper)).toBe(false);
  const { conversationId } = await stage.open(newId(), { rings: [ring] });
  await letTimePass(database.pool, conversationId, 60);
  await eventually('the other passes the ring', hasPassed(conversationId));
  await spare!.clocks.stop();
  await other.end();
});

test('once stopped, nothing is done any more and the lease is free', async () => {
  const { clocks } = start();
  await eventually('it has the lease', async () => (await countLeases()) === 1);
  await clocks.stop();
  expect(await countLeases()).toBe(0);
  const { conversationId } = await stage.open(newId(), { rings: [ring] });
  await letTimePass(database.pool, conversationId, 60);
  expect(await stage.conversation(conversationId)).toMatchObject({ ring: 0, dueKind: 'ring' });
});

/** As another session would that does not come to an end. */
async function holdTeam(teamId: string): Promise<() => Promise<void>> {
  const client = await database.pool.connect();
  await client.query('BEGIN');
  await client.query('SELECT FROM teams WHERE id = $1 FOR UPDATE', [teamId]);
  return async () => {
    await client.query('COMMIT');
    client.release();
  };
}

const connectImpatient = () =>
  createPool(loadConfig({ DATABASE_URL: database.url }), { applicationName: 'impatient', lockTimeoutMs: 100 });

async function openOffered(count: number): Promise<{ teamId: string; ids: string[] }> {
  const teamId = await stage.addTeam('round_robin', { offer: { acceptSeconds: 20, maxMissed: 100 } });
  await stage.addAgent(count, [teamId]);
  const ids = [];
  for (let i = 0; i < count; i += 1) ids.push((await stage.open(newId(), { teamId })).conversationId);
  for (const id of ids) await letTimePass(database.pool, id, 120);
  return { teamId, ids };
}

test('a team that others hold stops the clocks of nobody else: not those due with its own, and not those due later', async () => {
  const { teamId, ids } = await openOffered(8);
  const first = await stage.open(newId(), { rings: [ring] });
  const later = await stage.open(newId(), { rings: [ring] });
  const letGo = await holdTeam(teamId);
  try {
    await letTimePass(database.pool, first.conversationId, 60);
    const { readValue } = start();
    await eventually('the first passes', hasPassed(first.conversationId), { timeoutMs: 4_500 });
    await letTimePass(database.pool, later.conversationId, 60);
    await eventually('the second passes', hasPassed(later.conversationId), { timeoutMs: 4_500 });
    expect(await readValue('clocks_oldest_due_seconds')).toBeGreaterThan(90);
  } finally {
    await letGo();
  }
  // Nobody else is there, so each is offered to the same agent again.
  await eventually('the held ones are settled', async () => {
    const { rowCount } = await database.pool.query(
      'SELECT FROM conversations WHERE id = ANY($1) AND offer_expires_at > now()',
      [ids],
    );
    return rowCount === ids.length;
  });
});

test('the clocks of a held team are put off together and not counted as failed; they are done when it is free', async () => {
  const { teamId, ids } = await openOffered(8);
  const impatient = connectImpatient();
  const letGo = await holdTeam(teamId);
  try {
    const { readValue } = start(impatient);
    await eventually('all are put off', async () => {
      const { rowCount } = await database.pool.query(
        'SELECT FROM conversations WHERE id = ANY($1) AND due_at > now()',
        [ids],
      );
      return rowCount === ids.length;
    });
    await eventually('it is counted', async () => (await readValue('clocks_contended_total')) === 1);
    expect(await readValue('clocks_failed_total')).toBe(0);
  } finally {
    await letGo();
  }
  for (const id of ids) await letTimePass(database.pool, id, 10);
  await eventually('all are settled', async () => {
    const { rowCount } = await database.pool.query(
      'SELECT FROM conversations WHERE id = ANY($1) AND offer_expires_at > now()',
      [ids],
    );
    return rowCount === ids.length;
  });
  await running.pop()!.stop();
  await impatient.end();
});

test('silent agents of a held team are put off together, and those of other teams are set away', async () => {
  const held = await stage.addTeam();
  const agents = [await stage.addAgent(1, [held]), await stage.addAgent(1, [held]), await stage.addAgent(1)] as const;
  for (const [i, agentId] of agents.entries()) {
    await database.pool.query(
      `UPDATE agent_presence SET expires_at = now() - $2 * interval '1 s' WHERE agent_id = $1`,
      [agentId, 9 - i],
    );
  }
  const impatient = connectImpatient();
  const letGo = await holdTeam(held);
  try {
    start(impatient);
    await eventually('the healthy one is away, the others are put off', async () => {
      const { rows } = await database.pool.query<{ told: string }>(
        `SELECT status || coalesce(' ' || (expires_at > now()), '') AS told FROM agent_presence
         WHERE agent_id = ANY($1) ORDER BY array_position($1, agent_id)`,
        [agents],
      );
      return rows.map(({ told }) => told).join() === 'online true,online true,away';
    });
    expect(lines.filter((line) => line.includes('silent agent'))).toHaveLength(1);
  } finally {
    await letGo();
  }
  await running.pop()!.stop();
  await impatient.end();
});

test('a silent agent that cannot be set away is put off, and the others are set away', async () => {
  const [broken, sound] = [await stage.addAgent(1), await stage.addAgent(1)];
  const presenceOf = async (agentId: string) => {
    const { rows } = await database.pool.query<{ status: string; putOff: boolean }>(
      'SELECT status, expires_at > now() AS "putOff" FROM agent_presence WHERE agent_id = $1',
      [agentId],
    );
    return rows[0]!;
  };
  for (const [i, agentId] of [sound, broken].entries()) {
    await recordHeartbeat(database.pool, { workspaceId: stage.workspaceId, agentId });
    await database.pool.query(
      `UPDATE agent_presence SET expires_at = now() - $2 * interval '1 s' WHERE agent_id = $1`,
      [agentId, i],
    );
  }
  await database.pool.query(
    `ALTER TABLE agent_presence ADD CONSTRAINT never_away CHECK (agent_id <> '${broken}' OR status <> 'away')`,
  );
  try {
    start();
    await eventually('the other is away', async () => (await presenceOf(sound)).status === 'away');
    expect(await presenceOf(broken)).toEqual({ status: 'online', putOff: true });
    expect(lines.filter((line) => line.includes(broken) && line.includes('put off'))).toHaveLength(1);
  } finally {
    await database.pool.query('ALTER TABLE agent_presence DROP CONSTRAINT never_away');
  }
});

test('a conversation to which changed rules cannot be applied keeps no other from them, and the review ends', async () => {
  const teamId = await stage.addTeam();
  await stage.addAgent(3, [teamId]);
  const opened = [];
  for (let i = 0; i < 3; i += 1) opened.push((await stage.open(newId(), { teamId })).conversationId);
  const [before, broken, after] = opened as [string, string, string];
  // What no version of this code would write.
  await database.pool.query(`UPDATE conversations SET assigned_at = 'infinity' WHERE id = $1`, [broken]);
  const { workspaceId } = stage;
  await updateTeam(database.pool, { workspaceId, teamId, settings: { silenceMinutes: 5 } });
  const { readValue } = start();
  for (const id of [before, after]) {
    await eventually('the clock is wound', async () => (await stage.conversation(id)).dueKind === 'silence');
  }
  await eventually('the mark is gone', async () => {
    const { rowCount } = await database.pool.query('SELECT FROM teams WHERE id = $1 AND review_at IS NULL', [teamId]);
    return rowCount === 1;
  });
  expect((await stage.conversation(broken)).dueKind).toBeNull();
  expect(lines.filter((line) => line.includes(broken))).toHaveLength(1);
  expect(await readValue('clocks_failed_total')).toBe(1);
});

async function countLeases(): Promise<number> {
  const { rowCount } = await database.pool.query(`SELECT FROM leases WHERE name = 'clocks'`);
  return rowCount!;
}
