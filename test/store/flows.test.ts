import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createAgent } from '../../store/agents.ts';
import { createChannel } from '../../store/channels.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow, getFlow, listFlows, listFlowVersions, updateFlow } from '../../store/flows.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { openForContact } from '../../store/opening.ts';
import { enrichConversation } from '../../store/enriching.ts';
import { fallBack } from '../../store/fallback.ts';
import { routeByFlow } from '../../store/routing.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase } from '../support/database.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(() => database.drop());

const documentFor = (teamId: string, priority = 0) => ({ routing: { branches: [], otherwise: { teamId, priority } } });

async function createDraft() {
  const { workspaceId, defaultTeamId: teamId } = await createWorkspace(database.pool, { name: 'Flows' });
  const result = await createFlow(database.pool, {
    workspaceId,
    name: 'Support',
    description: '',
    document: documentFor(teamId),
  });
  if (result.kind !== 'created') throw new Error(result.kind);
  return { workspaceId, teamId, flow: result.flow };
}

test('a draft is stored with its defaults, unpublished', async () => {
  const { flow } = await createDraft();
  expect(flow).toMatchObject({ name: 'Support', publishedVersionId: null, publishedNumber: null });
  expect(flow.document.trigger.condition).toBe("conversation.source == 'contact'");
});

test('people who publish at once get one number each, and the highest stands', async () => {
  const { workspaceId, flow } = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  const results = await Promise.all(Array.from({ length: 5 }, () => publishFlow(database.pool, key)));
  const versions = results.map((result) => (result.kind === 'published' ? result.version : null));
  expect(versions.map((version) => version?.number).toSorted()).toEqual([1, 2, 3, 4, 5]);
  const published = await getFlow(database.pool, key);
  expect(published?.publishedNumber).toBe(5);
  expect(published?.publishedVersionId).toBe(versions.find((version) => version?.number === 5)?.id);
  const page = await listFlowVersions(database.pool, { ...key, beforeNumber: 4, limit: 2 });
  expect(page.map(({ number }) => number)).toEqual([3, 2]);
});

test('a published version stays as it was when the draft changes', async () => {
  const { workspaceId, teamId, flow } = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  await publishFlow(database.pool, key);
  const changed = await updateFlow(database.pool, { ...key, name: 'Sales', document: documentFor(teamId, 50) });
  expect(changed).toMatchObject({ kind: 'updated', flow: { name: 'Sales', publishedNumber: 1 } });
  const [version] = await listFlowVersions(database.pool, { ...key, beforeNumber: null, limit: 10 });
  expect(version?.document.routing.otherwise.priority).toBe(0);
});

test('the database refuses to change or delete a published version', async () => {
  const { workspaceId, flow } = await createDraft();
  await publishFlow(database.pool, { workspaceId, flowId: flow.id });
  for (const sql of [
    "UPDATE flow_versions SET document = '{}' WHERE workspace_id = $1",
    'DELETE FROM flow_versions WHERE workspace_id = $1',
  ]) {
    await expect(database.pool.query(sql, [workspaceId])).rejects.toMatchObject({ code: '23001' });
  }
});

test('a flow that names a team of another workspace is refused, and nothing is stored', async () => {
  const { workspaceId, flow } = await createDraft();
  const other = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  const result = await updateFlow(database.pool, { ...key, name: 'Sales', document: documentFor(other.teamId) });
  expect(result).toMatchObject({ kind: 'invalid', faults: [{ path: '/routing/otherwise/teamId' }] });
  expect((await getFlow(database.pool, key))?.name).toBe('Support');
});

test('another workspace finds no flow', async () => {
  const { flow } = await createDraft();
  const key = { workspaceId: newId(), flowId: flow.id };
  expect(await getFlow(database.pool, key)).toBeNull();
  expect(await publishFlow(database.pool, key)).toEqual({ kind: 'not_found' });
  expect(await updateFlow(database.pool, { ...key, name: 'Mine' })).toEqual({ kind: 'not_found' });
  expect(await listFlows(database.pool, { workspaceId: key.workspaceId, after: null, limit: 10 })).toEqual([]);
});

const askingFor = (teamId: string) => ({
  enrichment: [
    { kind: 'set', field: 'topic', value: 'billing' },
    { kind: 'keywords', field: 'nowhere', rules: [{ value: 'french', keywords: ['bonjour'] }] },
  ],
  routing: {
    branches: [],
    otherwise: {
      teamId,
      priority: 5,
      requirements: [
        { skill: 'spanish', level: 4 },
        { skillFromField: 'topic', level: 2, preferred: true },
        { skillFromField: 'nowhere', level: 1 },
      ],
      rings: [
        { afterSeconds: 30, relax: [{ skill: 'spanish', level: 2 }] },
        { afterSeconds: 600, fallback: 'close' },
      ],
    },
  },
});

const stored = {
  skills: [
    { skill: 'spanish', level: 4, preferred: false },
    { skill: 'billing', level: 2, preferred: true },
  ],
  rings: [
    { afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 2 }] },
    { afterSeconds: 600, kind: 'fallback', then: 'close' },
  ],
};

/** A conversation that runs by a flow which asks for skills, and has found out its fields. */
async function openByFlow(document: (teamId: string) => unknown) {
  const { pool } = database;
  const { workspaceId, defaultTeamId } = await createWorkspace(pool, { name: 'Flows' });
  const agent = { workspaceId, name: 'Ada', capacity: 1, teamIds: [defaultTeamId], skills: { spanish: 5 } };
  await createAgent(pool, { ...agent, channelLimits: {} });
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });
  const created = await createFlow(pool, {
    workspaceId,
    name: 'Asking',
    description: '',
    document: document(defaultTeamId),
  });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  const published = await publishFlow(pool, { workspaceId, flowId: created.flow.id });
  if (published.kind !== 'published') throw new Error(published.kind);
  const item = { workspaceId, channel: 'web', externalId: newId(), contact: { externalId: 'c' }, text: 'Hola' };
  const [message] = await ingestMessages(pool, [item]);
  if (message?.kind !== 'accepted') throw new Error(message?.kind);
  await openForContact(pool, { workspaceId, contactId: message.contactId });
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM conversations WHERE workspace_id = $1', [
    workspaceId,
  ]);
  const { id: conversationId } = rows[0]!;
  const key = { workspaceId, contactId: message.contactId, conversationId };
  if ('enrichment' in (document('') as object)) {
    await enrichConversation(pool, key);
  }
  return { key, teamId: defaultTeamId, version: published.version };
}

async function requirementsAndDecision({
  workspaceId,
  conversationId,
}: {
  workspaceId: string;
  conversationId: string;
}) {
  const { rows } = await database.pool.query<{ requirements: unknown; detail: Record<string, unknown> }>(
    `SELECT v.requirements, d.detail
     FROM conversations v JOIN decisions d ON d.workspace_id = v.workspace_id AND d.conversation_id = v.id
     WHERE v.workspace_id = $1 AND v.id = $2 AND d.kind = 'routing'`,
    [workspaceId, conversationId],
  );
  expect(rows).toHaveLength(1);
  return rows[0]!;
}

test('a conversation keeps what its branch asks for, and the decision tells it with flow version and time taken', async () => {
  const { key, teamId, version } = await openByFlow(askingFor);
  expect(await routeByFlow(database.pool, key)).not.toBeNull();
  const { requirements, detail } = await requirementsAndDecision(key);
  expect(requirements).toEqual(stored);
  expect(detail).toMatchObject({
    flowVersionId: version.id,
    flowVersionNumber: 1,
    teamId,
    priority: 5,
    branch: null,
    requirements: stored,
    missingFields: ['nowhere'],
  });
  expect(detail['tookMs']).toBeGreaterThan(0);
});

test('a flow that asks for nothing gives a conversation that asks for nothing', async () => {
  const { key } = await openByFlow(documentFor);
  expect(await routeByFlow(database.pool, key)).not.toBeNull();
  const { requirements, detail } = await requirementsAndDecision(key);
  expect(requirements).toEqual({ skills: [], rings: [] });
  expect(detail).toMatchObject({ requirements: { skills: [], rings: [] }, missingFields: [] });
});

test('a flow that fails leaves a conversation that asks for nothing, and tells the version that failed', async () => {
  const { key, teamId, version } = await openByFlow(askingFor);
  expect(await fallBack(database.pool, key, 'its steps took too long')).toBe(true);
  const { requirements, detail } = await requirementsAndDecision(key);
  expect(requirements).toEqual({ skills: [], rings: [] });
  expect(detail).toEqual({
    teamId,
    branch: null,
    reason: 'its steps took too long',
    flowVersionId: version.id,
    flowVersionNumber: 1,
  });
});

test('skills of another workspace are unknown here, and a draft whose skill is gone is not published', async () => {
  const { workspaceId, teamId, flow } = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  await openByFlow(askingFor);
  const document = {
    routing: { branches: [], otherwise: { teamId, priority: 0, requirements: [{ skill: 'spanish', level: 1 }] } },
  };
  const fault = { path: '/routing/otherwise/requirements/0/skill' };
  expect(await updateFlow(database.pool, { ...key, document })).toMatchObject({ kind: 'invalid', faults: [fault] });
  await createAgent(database.pool, {
    workspaceId,
    name: 'Ada',
    capacity: 1,
    teamIds: [],
    skills: { spanish: 1 },
    channelLimits: {},
  });
  expect(await updateFlow(database.pool, { ...key, document })).toMatchObject({ kind: 'updated' });
  await database.pool.query("UPDATE agents SET skills = '{}' WHERE workspace_id = $1", [workspaceId]);
  expect(await publishFlow(database.pool, key)).toMatchObject({ kind: 'invalid', faults: [fault] });
});
