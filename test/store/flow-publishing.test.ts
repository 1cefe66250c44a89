import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { ingestMessages } from '../../store/ingest.ts';
import {
  archiveFlow,
  orderFlows,
  publishFlow,
  restoreFlow,
  rollBackFlow,
  unpublishFlow,
} from '../../store/flow-publishing.ts';
import { createFlow, getFlow, listFlows, updateFlow } from '../../store/flows.ts';
import { lookAtContacts } from '../../store/pending-contacts.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase } from '../support/database.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(() => database.drop());

/** A workspace with so many flows; `publish` publishes those named by their place. */
async function prepare(flows = 3) {
  const { pool } = database;
  const { workspaceId, defaultTeamId: teamId } = await createWorkspace(pool, { name: 'Flows' });
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });
  const document = { routing: { branches: [], otherwise: { teamId, priority: 0 } } };
  const ids: string[] = [];
  for (let place = 0; place < flows; place += 1) {
    const created = await createFlow(pool, { workspaceId, name: `Flow ${place}`, description: '', document });
    if (created.kind !== 'created') throw new Error(created.kind);
    ids.push(created.flow.id);
  }
  const keyOf = (place: number) => ({ workspaceId, flowId: ids[place]! });
  const list = async (isArchived = false) =>
    (await listFlows(pool, { workspaceId, after: null, limit: 100, isArchived })).map(({ id, position }) => ({
      place: ids.indexOf(id),
      position,
    }));
  /** The flows that an opening asks now, in order, as places. */
  async function asked(): Promise<number[]> {
    const item = { workspaceId, channel: 'web', externalId: newId(), contact: { externalId: newId() }, text: 'Hello' };
    const [message] = await ingestMessages(pool, [item]);
    if (message?.kind !== 'accepted') throw new Error(message?.kind);
    const [look] = await lookAtContacts(pool, [{ workspaceId, contactId: message.contactId }]);
    const all = await Promise.all(ids.map((_, place) => getFlow(pool, keyOf(place))));
    return look!.pending!.versionIds.map((id) => all.findIndex((flow) => flow!.publishedVersionId === id));
  }
  return { pool, workspaceId, teamId, document, ids, keyOf, list, asked };
}

test('flows stand in the order in which they are made, until it is set; openings ask them in that order', async () => {
  const { pool, workspaceId, ids, keyOf, list, asked, document } = await prepare(3);
  for (const place of [0, 1, 2]) await publishFlow(pool, keyOf(place));
  expect(await list()).toEqual([0, 1, 2].map((place) => ({ place, position: place + 1 })));
  expect(await asked()).toEqual([0, 1, 2]);
  const ordered = await orderFlows(pool, { workspaceId, flowIds: [ids[2]!, ids[0]!, ids[1]!] });
  expect(ordered).toMatchObject({ kind: 'ordered', flows: [{ id: ids[2], position: 1 }, {}, { position: 3 }] });
  expect(await asked()).toEqual([2, 0, 1]);
  const made = await createFlow(pool, { workspaceId, name: 'Late', description: '', document });
  expect(made).toMatchObject({ kind: 'created', flow: { position: 4 } });
});

test('an order that does not name every flow once is refused with all that is wrong, and changes nothing', async () => {
  const { pool, workspaceId, ids, keyOf, list } = await prepare(4);
  const other = await prepare(1);
  await archiveFlow(pool, keyOf(3));
  const flowIds = [ids[1]!, other.ids[0]!, ids[1]!, ids[3]!];
  expect(await orderFlows(pool, { workspaceId, flowIds })).toEqual({
    kind: 'not_every_flow_once',
    doubled: [2],
    unknown: [1, 3],
    missing: [
      { id: ids[0], name: 'Flow 0' },
      { id: ids[2], name: 'Flow 2' },
    ],
  });
  expect((await list()).map(({ place }) => place)).toEqual([0, 1, 2]);
});

test('an archived flow is withdrawn, refuses every change, and comes back as the last draft', async () => {
  const { pool, keyOf, list, asked } = await prepare(2);
  await publishFlow(pool, keyOf(0));
  const archived = await archiveFlow(pool, keyOf(0));
  expect(archived).toMatchObject({ kind: 'archived', flow: { publishedVersionId: null, position: null } });
  expect(await archiveFlow(pool, keyOf(0))).toEqual(archived);
  expect(await asked()).toEqual([]);
  expect(await list()).toEqual([{ place: 1, position: 1 }]);
  expect(await list(true)).toEqual([{ place: 0, position: null }]);
  expect(await updateFlow(pool, { ...keyOf(0), name: 'Other' })).toEqual({ kind: 'archived' });
  expect(await publishFlow(pool, keyOf(0))).toEqual({ kind: 'archived' });
  expect(await rollBackFlow(pool, { ...keyOf(0), number: 1 })).toEqual({ kind: 'archived' });
  expect(await unpublishFlow(pool, keyOf(0))).toEqual({ kind: 'archived' });

  const restored = await restoreFlow(pool, keyOf(0));
  expect(restored).toMatchObject({ kind: 'restored', flow: { publishedNumber: null, archivedAt: null, position: 2 } });
  expect(await publishFlow(pool, keyOf(0))).toMatchObject({ kind: 'published', version: { number: 2 } });
});

test('a roll back makes an older version live without a new one, and the draft stays', async () => {
  const { pool, teamId, keyOf } = await prepare(1);
  const key = keyOf(0);
  await publishFlow(pool, key);
  const document = { routing: { branches: [], otherwise: { teamId, priority: 7 } } };
  await updateFlow(pool, { ...key, document });
  await publishFlow(pool, key);
  expect(await rollBackFlow(pool, { ...key, number: 3 })).toEqual({ kind: 'unknown_version' });
  expect(await rollBackFlow(pool, { ...key, number: 1 })).toMatchObject({
    kind: 'rolled_back',
    version: { number: 1, document: { routing: { otherwise: { priority: 0 } } } },
  });
  expect(await getFlow(pool, key)).toMatchObject({ publishedNumber: 1, document });
  expect(await publishFlow(pool, key)).toMatchObject({ version: { number: 3 } });
});

test('a version whose team or skill is gone is not rolled back to', async () => {
  const { pool, workspaceId, teamId, keyOf } = await prepare(1);
  const key = keyOf(0);
  const requirements = [{ skill: 'spanish', level: 1 }];
  await pool.query(
    `INSERT INTO agents (workspace_id, id, name, capacity, skills) VALUES ($1, $2, 'Ada', 1, '{"spanish": 2}')`,
    [workspaceId, newId()],
  );
  const asking = { routing: { branches: [], otherwise: { teamId, priority: 0, requirements } } };
  expect(await updateFlow(pool, { ...key, document: asking })).toMatchObject({ kind: 'updated' });
  await publishFlow(pool, key);
  await updateFlow(pool, { ...key, document: { routing: { branches: [], otherwise: { teamId, priority: 0 } } } });
  await publishFlow(pool, key);
  await pool.query("UPDATE agents SET skills = '{}' WHERE workspace_id = $1", [workspaceId]);
  expect(await rollBackFlow(pool, { ...key, number: 1 })).toMatchObject({
    kind: 'invalid',
    faults: [{ path: '/routing/otherwise/requirements/0/skill' }],
  });
  expect((await getFlow(pool, key))?.publishedNumber).toBe(2);
});

test('who publishes is told of a flow before it that takes everything, and of teams without agents', async () => {
  const { pool, workspaceId, teamId, ids, keyOf } = await prepare(2);
  const agentId = newId();
  await pool.query(`INSERT INTO agents (workspace_id, id, name, capacity) VALUES ($1, $2, 'Ada', 1)`, [
    workspaceId,
    agentId,
  ]);
  const lonely = [expect.stringMatching(/^The team “Default”.* has no agents/)];
  expect(await publishFlow(pool, keyOf(0))).toMatchObject({ hints: lonely });
  await pool.query('INSERT INTO team_members (workspace_id, team_id, agent_id) VALUES ($1, $2, $3)', [
    workspaceId,
    teamId,
    agentId,
  ]);
  expect(await publishFlow(pool, keyOf(0))).toMatchObject({ hints: [] });
  expect(await publishFlow(pool, keyOf(1))).toMatchObject({
    hints: [expect.stringMatching(/^It never runs: the flow “Flow 0”/)],
  });
  await orderFlows(pool, { workspaceId, flowIds: ids.toReversed() });
  expect(await publishFlow(pool, keyOf(1))).toMatchObject({
    hints: [expect.stringMatching(/never run: “Flow 0”\.$/)],
  });
  const condition = "channel.key == 'web'";
  const narrow = { trigger: { condition }, routing: { branches: [], otherwise: { teamId, priority: 0 } } };
  await updateFlow(pool, { ...keyOf(1), document: narrow });
  expect(await publishFlow(pool, keyOf(1))).toMatchObject({ hints: [] });
});

test('whatever is done to a flow and its neighbours at once, an archived one is never live and the order stays one', async () => {
  const { pool, workspaceId, ids, keyOf, list } = await prepare(3);
  await publishFlow(pool, keyOf(0));
  await Promise.all(
    Array.from({ length: 6 }, (_, turn) => [
      publishFlow(pool, keyOf(0)),
      archiveFlow(pool, keyOf(0)),
      orderFlows(pool, { workspaceId, flowIds: turn % 2 === 0 ? ids : ids.toReversed() }),
      rollBackFlow(pool, { ...keyOf(0), number: 1 }),
      restoreFlow(pool, keyOf(0)),
    ]).flat(),
  );
  await archiveFlow(pool, keyOf(0));
  const flow = await getFlow(pool, keyOf(0));
  expect(flow).toMatchObject({ publishedVersionId: null, position: null });
  expect((await list()).map(({ position }) => position)).toEqual([1, 2]);
  const { rows } = await pool.query<{ number: number }>(
    'SELECT number FROM flow_versions WHERE workspace_id = $1 ORDER BY number',
    [workspaceId],
  );
  expect(rows.map(({ number }) => number)).toEqual(rows.map((_, place) => place + 1));
});

test('flows from before there was an order are asked as they were, and new ones come last', async () => {
  const older = await createTestDatabase();
  onTestFinished(() => older.drop());
  const { pool } = older;
  await pool.query('ALTER TABLE flows DROP COLUMN position, DROP COLUMN archived_at');
  const workspaces = [await createWorkspace(pool, { name: 'A' }), await createWorkspace(pool, { name: 'B' })];
  const ids = workspaces.map(() => [newId(), newId(), newId()]);
  for (const place of [2, 0, 1]) {
    for (const [at, { workspaceId }] of workspaces.entries()) {
      await pool.query(`INSERT INTO flows (workspace_id, id, name, draft) VALUES ($1, $2, 'Old', '{}')`, [
        workspaceId,
        ids[at]![place],
      ]);
    }
  }
  await pool.query(await readFile(new URL('../../store/migrations/0011_flow_order.sql', import.meta.url), 'utf8'));
  for (const [at, { workspaceId, defaultTeamId: teamId }] of workspaces.entries()) {
    const document = { routing: { branches: [], otherwise: { teamId } } };
    const made = await createFlow(pool, { workspaceId, name: 'New', description: '', document });
    if (made.kind !== 'created') throw new Error(made.kind);
    const listed = await listFlows(pool, { workspaceId, after: null, limit: 10 });
    expect(listed.map(({ id }) => id)).toEqual([...ids[at]!, made.flow.id]);
    expect(listed.map(({ position }) => position)).toEqual([1, 2, 3, 4]);
  }
});
