import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import { assignRouted } from '../../store/assignment.ts';
import { createChannel } from '../../store/channels.ts';
import { executeClose } from '../../store/closing.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { createKey } from '../../store/keys.ts';
import { openForContact } from '../../store/opening.ts';
import { createTestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi, type ApiUnderTest } from './bare-api.ts';

export type WorkspaceApi = Awaited<ReturnType<typeof startWorkspaceApi>>;

/** The API over a database of its own, and workspaces in it. No actor runs: `open` and `close` of a workspace do its steps. */
export async function startWorkspaceApi() {
  const database = await createTestDatabase();
  const { pool } = database;
  const api = await startApi(pool);
  return {
    app: api.app,
    metrics: api.metrics,
    pool,
    workspace: () => prepareWorkspace(pool, api),
    stop: async () => {
      const closed = api.close();
      // fetch keeps connections in reserve that never sent a request; the server would wait for those.
      api.app.server.closeAllConnections();
      await closed;
      await database.drop();
    },
  };
}

async function prepareWorkspace(pool: pg.Pool, api: ApiUnderTest) {
  const workspace = await createTestWorkspace(pool);
  const { workspaceId, keys } = workspace;
  await createChannel(pool, { workspaceId, key: 'chat', name: 'Chat' });

  async function call(key: string, method: 'GET' | 'POST' | 'PUT' | 'PATCH', path: string, body?: object) {
    const answer = await api.call(method, `/v1${path}`, { key, body });
    return { status: answer.status, body: answer.body };
  }

  /** An agent of the default team, online. */
  async function addAgent(capacity = 1): Promise<string> {
    const body = { name: 'Ada', capacity, teamIds: [workspace.defaultTeamId], skills: { german: 4 } };
    const agent = await call(keys.admin, 'POST', '/agents', body);
    await call(keys.agent, 'PUT', `/agents/${agent.body.id}/presence`, { status: 'online' });
    return agent.body.id;
  }

  async function write(text: string, contact = newId()) {
    const item = { workspaceId, channel: 'chat', externalId: newId(), contact: { externalId: contact }, text };
    const [result] = await ingestMessages(pool, [item]);
    if (result?.kind !== 'accepted') throw new Error(result?.kind);
    return result;
  }

  /** What the actor does when a contact has written: no flow is published, so the default team gets it. */
  async function open(texts: readonly string[] = ['Hello']) {
    const contact = newId();
    let contactId = '';
    for (const text of texts) ({ contactId } = await write(text, contact));
    await openForContact(pool, { workspaceId, contactId });
    const { body } = await call(keys.agent, 'GET', `/contacts/${contactId}`);
    const conversationId: string = body.openConversationId;
    await assignRouted(pool, { workspaceId, contactId, conversationId });
    return { contact, contactId, conversationId };
  }

  return {
    ...workspace,
    addAgent,
    write,
    open,
    close: (ref: { contactId: string; conversationId: string }) => executeClose(pool, { workspaceId, ...ref }),
    keyOf: async (agentId: string) =>
      (await createKey(pool, { workspaceId, scope: 'agent', name: 'Bound', agentId })).key,
    get: (path: string, key = keys.agent) => call(key, 'GET', path),
    post: (path: string, body?: object, key = keys.agent) => call(key, 'POST', path, body),
    put: (path: string, body: object, key = keys.agent) => call(key, 'PUT', path, body),
    patch: (path: string, body: object, key = keys.admin) => call(key, 'PATCH', path, body),
  };
}
