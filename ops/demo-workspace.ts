import { join } from 'node:path';
import pg from 'pg';
import { createWorkspace } from '../store/workspaces.ts';
import {
  createDemoFlow,
  demoAgents,
  demoChannels,
  demoFlowName,
  demoTeams,
  demoWorkspaceName,
} from './demo-content.ts';
import { readJson, writeJson } from './state-files.ts';

/*
 * The workspace that a first start makes to try things out in. The row and its keys are made in the database; everything in it through
 * the public API, as a user would. A start that is interrupted leaves any part of it undone, and the next one completes it: each thing
 * is looked up by name before it is made. Once complete it is the user's, and never touched again.
 */

export interface DemoWorkspace {
  workspaceId: string;
  keys: { ingest: string; agent: string; admin: string };
}

interface StoredWorkspace extends DemoWorkspace {
  defaultTeamId: string;
  isComplete: boolean;
}

/** By database, since the same state directory may serve several in turn. */
type StoredWorkspaces = Record<string, StoredWorkspace>;

export async function ensureDemoWorkspace(options: {
  stateDir: string;
  databaseUrl: string;
  /** Tells this database from others; holds no password. */
  databaseName: string;
  apiUrl: string;
  log: (line: string) => void;
}): Promise<DemoWorkspace> {
  const { stateDir, databaseUrl, databaseName, apiUrl, log } = options;
  const file = join(stateDir, 'workspaces.json');
  const stored = readJson<StoredWorkspaces>(file) ?? {};
  const remember = (workspace: StoredWorkspace) => {
    stored[databaseName] = workspace;
    writeJson(file, stored);
  };
  let workspace = stored[databaseName];
  if (workspace === undefined || !(await isKeyKnown(apiUrl, workspace.keys.admin))) {
    log('making the workspace and its keys');
    workspace = await createDemoWorkspace(databaseUrl, remember);
  }
  if (!workspace.isComplete) {
    await completeDemoWorkspace(createApi(apiUrl, workspace.keys.admin), workspace.defaultTeamId, log);
    workspace = { ...workspace, isComplete: true };
    remember(workspace);
  }
  return { workspaceId: workspace.workspaceId, keys: workspace.keys };
}

/**
 * The keys are shown once, so they go to disk at once. A kill in the instant between leaves an empty workspace without known keys in the
 * database; the next start then makes another.
 */
async function createDemoWorkspace(
  databaseUrl: string,
  remember: (workspace: StoredWorkspace) => void,
): Promise<StoredWorkspace> {
  const pool = new pg.Pool({ connectionString: databaseUrl, application_name: 'switchyard-start', max: 1 });
  pool.on('error', () => undefined);
  try {
    const { workspaceId, defaultTeamId, keys } = await createWorkspace(pool, { name: demoWorkspaceName });
    const workspace = { workspaceId, defaultTeamId, keys, isComplete: false };
    remember(workspace);
    return workspace;
  } finally {
    await pool.end();
  }
}

async function completeDemoWorkspace(api: Api, defaultTeamId: string, log: (line: string) => void): Promise<void> {
  log('channels');
  const channels = await listAll(api, '/v1/channels');
  for (const channel of demoChannels) {
    if (!channels.some(({ key }) => key === channel.key)) await api('POST', '/v1/channels', channel);
  }

  log('teams');
  const teams = await listAll(api, '/v1/teams');
  const teamIds = new Map<string, string>();
  for (const team of demoTeams) {
    const existing = teams.find(({ name }) => name === team.name);
    teamIds.set(team.name, (existing ?? (await api('POST', '/v1/teams', team))).id);
  }
  const idOf = (name: string) => teamIds.get(name) ?? defaultTeamId;

  log('agents');
  const agents = await listAll(api, '/v1/agents');
  for (const { name, capacity, skills, teams: memberOf } of demoAgents) {
    const existing = agents.find((agent) => agent.name === name);
    const agent = { name, capacity, skills, teamIds: [...memberOf.map(idOf), defaultTeamId] };
    const { id } = existing ?? (await api('POST', '/v1/agents', agent));
    await api('PUT', `/v1/agents/${id}/presence`, { status: 'online' });
  }

  log('flow');
  const flows = await listAll(api, '/v1/flows');
  const flow = createDemoFlow({ support: idOf('Support'), billing: idOf('Billing'), otherwise: defaultTeamId });
  const { id } = flows.find(({ name }) => name === demoFlowName) ?? (await api('POST', '/v1/flows', flow));
  await api('POST', `/v1/flows/${id}/publish`);
}

interface Item {
  id: string;
  name?: string;
  key?: string;
}

type Api = <T extends object = Item>(method: 'GET' | 'POST' | 'PUT', path: string, body?: unknown) => Promise<T>;

function createApi(apiUrl: string, key: string): Api {
  return async (method, path, body) => {
    const response = await fetch(`${apiUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text.slice(0, 2_000)}`);
    return text === '' ? {} : JSON.parse(text);
  };
}

async function listAll(api: Api, path: string): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page: { items: Item[]; nextCursor: string | null } = await api('GET', `${path}?limit=100${query}`);
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return items;
}

async function isKeyKnown(apiUrl: string, adminKey: string): Promise<boolean> {
  const response = await fetch(`${apiUrl}/v1/channels?limit=1`, {
    headers: { authorization: `Bearer ${adminKey}` },
    signal: AbortSignal.timeout(30_000),
  });
  if (response.ok) return true;
  if (response.status === 401) return false;
  throw new Error(`GET /v1/channels answered ${response.status}: ${(await response.text()).slice(0, 2_000)}`);
}
