/**
 * Runs an example of the guide: everything that a user does by HTTP, everything that the actors, the relay and the clocks do by the functions
 * that they call. Time passes by moving all that has happened back.
 */
import type pg from 'pg';
import { expect } from 'vitest';
import { newId } from '../../platform/id.ts';
import { isResting } from '../../routing/phase.ts';
import { readSilentAgents, setAwayIfSilent } from '../../store/agents.ts';
import { assignRouted } from '../../store/assignment.ts';
import { executeClose } from '../../store/closing.ts';
import { openForContact } from '../../store/opening.ts';
import { readPhase } from '../../store/phases.ts';
import { wakeConversation } from '../../store/quiet.ts';
import { finishReview, readReviews, reviewPage } from '../../store/review-clocks.ts';
import { enrichConversation } from '../../store/enriching.ts';
import { routeByFlow } from '../../store/routing.ts';
import type { NewWorkspace } from '../../store/workspaces.ts';
import { settleAllDue } from '../store/passing-time.ts';
import { arrivalsOf, parseArrival, type Arrival, type Example } from './assignment-example.ts';

export type ExampleStage = Awaited<ReturnType<typeof setStage>>;

export interface Answer {
  readonly status: number;
  // Tests look at whatever an answer holds.
  readonly body: any;
}

interface Setting {
  readonly baseUrl: string;
  readonly pool: pg.Pool;
  readonly workspace: NewWorkspace;
}

/** Teams, channels, agents and the published flow, before anything arrives. */
export async function setStage({ baseUrl, pool, workspace }: Setting, example: Example) {
  const { workspaceId, keys } = workspace;
  const teams = new Map<string, string>();
  const agents = new Map<string, string>();
  const contacts = new Map<string, string>();
  const conversations = new Map<string, string>();

  async function call(method: string, path: string, body?: object, key = keys.admin): Promise<Answer> {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const answer = await fetch(`${baseUrl}/v1${path}`, {
      method,
      headers: body === undefined ? { authorization: headers.authorization } : headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
  }

  async function must(method: string, path: string, body?: object, key?: string): Promise<any> {
    const answer = await call(method, path, body, key);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async function prepare(): Promise<void> {
    const { team, otherTeams = {}, channels = { chat: 1 }, workspace: rules, closeCategories = [] } = example;
    if (rules !== undefined) await must('PATCH', '/workspace', rules);
    for (const name of closeCategories) await must('POST', '/close-categories', { name });
    for (const [key, units] of Object.entries(channels)) await must('POST', '/channels', { key, name: key, units });
    for (const name of ['team', ...Object.keys(otherTeams)]) {
      teams.set(name, (await must('POST', '/teams', { name })).id);
    }
    for (const { name, team: own = 'team', presence: _, ...agent } of example.agents) {
      const body = { ...agent, name, teamIds: [idIn(teams, own)] };
      agents.set(name, (await must('POST', '/agents', body)).id);
    }
    for (const [name, settings] of Object.entries({ ...otherTeams, team })) {
      await must('PATCH', `/teams/${idIn(teams, name)}`, withIds(settings) as object);
    }
    for (const { name, presence = 'online' } of example.agents) {
      await must('PUT', `/agents/${idIn(agents, name)}/presence`, { status: presence });
    }
  }

  /** Names stand for ids where the API wants ids. */
  function withIds(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(withIds);
    if (typeof value !== 'object' || value === null) return value;
    const { priorityList, overflowTeamId, ...rest } = value as Record<string, unknown>;
    const mapped = Object.entries(rest).map(([key, member]) => [key, withIds(member)] as const);
    return {
      ...Object.fromEntries(mapped),
      ...(priorityList === undefined ? {} : { priorityList: (priorityList as string[]).map((n) => idIn(agents, n)) }),
      ...(overflowTeamId === undefined ? {} : { overflowTeamId: idIn(teams, overflowTeamId as string) }),
    };
  }

  /** Everything goes to the team with what the example asks for; the arrivals' priorities are branches by what is written. */
  function createFlow(): Promise<Answer> {
    const { enrichment = [], requirements, rings } = example;
    const asked = { ...(requirements && { requirements }), ...(rings && { rings: withIds(rings) as object[] }) };
    const teamId = idIn(teams, 'team');
    const priorities = new Set(arrivalsOf(example).map(({ priority }) => priority));
    priorities.delete(0);
    const branches = [...priorities].map((priority) => ({
      name: `Priority ${priority}`,
      when: `contact.attributes.priority == '${priority}'`,
      teamId,
      priority,
      ...asked,
    }));
    const routing = { branches, otherwise: { teamId, priority: 0, ...asked } };
    return call('POST', '/flows', { name: 'Example', document: { enrichment, routing } });
  }

  async function arrive({ name, channel, sameContactAs, priority, text }: Arrival): Promise<void> {
    if (conversations.has(name)) throw new Error(`There are two conversations named ${name}.`);
    const externalId = sameContactAs ?? name;
    const attributes = { priority: String(priority) };
    const message = { channel, externalId: newId(), contact: { externalId, attributes }, text };
    const { contactId } = await must('POST', '/messages', message, keys.ingest);
    contacts.set(name, contactId);
    await settle();
    const { openConversationId } = await must('GET', `/contacts/${contactId}`);
    if (openConversationId === null) throw new Error(`Nothing was opened for ${name}.`);
    conversations.set(name, openConversationId);
  }

  /** Until nothing is left to do for anybody but people and time. */
  async function settle(): Promise<void> {
    let isDone = false;
    while (!isDone) {
      for (const review of await readReviews(pool, { maxRows: 100 })) {
        await reviewPage(pool, review, null);
        await finishReview(pool, review);
      }
      for (const contactId of new Set(contacts.values())) await carryOn(pool, { workspaceId, contactId });
      await wakeAll(pool, workspaceId);
      for (const agent of await readSilentAgents(pool, { maxRows: 100 })) await setAwayIfSilent(pool, agent);
      isDone = (await settleAllDue(pool, workspaceId)) === 0;
    }
  }

  async function explain(conversation: string): Promise<string> {
    const { items } = await must('GET', `/conversations/${idIn(conversations, conversation)}/decisions`);
    const decisions = items as { kind: string; summary: string }[];
    return decisions.findLast(({ kind }) => kind === 'assignment')!.summary;
  }

  await prepare();
  return {
    workspaceId,
    call,
    must,
    createFlow,
    arrive: (arrival: string) => arrive(parseArrival(arrival)),
    settle,
    explain,
    pass: (seconds: number) => letTimePass(pool, workspaceId, seconds),
    nameOf: (agentId: string | null) => [...agents].find(([, id]) => id === agentId)?.[0] ?? null,
    agentId: (name: string) => idIn(agents, name),
    teamId: (name: string) => idIn(teams, name),
    contactId: (conversation: string) => idIn(contacts, conversation),
    conversationId: (name: string) => idIn(conversations, name),
    /** Another message in the conversation. */
    write: async (conversation: string) => {
      const { channel, sameContactAs } = arrivalsOf(example).find(({ name }) => name === conversation)!;
      const contact = { externalId: sameContactAs ?? conversation };
      await must('POST', '/messages', { channel, externalId: newId(), contact, text: 'Hello?' }, keys.ingest);
    },
  };
}

function idIn(ids: ReadonlyMap<string, string>, name: string): string {
  const id = ids.get(name);
  if (id === undefined) throw new Error(`Nothing is named ${name}; there are ${[...ids.keys()].join(', ')}.`);
  return id;
}

/** What the contact's actor does, step by step, until it has nothing to do. */
async function carryOn(pool: pg.Pool, contact: { workspaceId: string; contactId: string }): Promise<void> {
  for (;;) {
    const phase = await readPhase(pool, contact);
    if (isResting(phase)) return;
    if (phase.kind === 'pending') {
      await openForContact(pool, contact);
      continue;
    }
    const key = { ...contact, conversationId: phase.conversationId };
    if (phase.kind === 'enriching') await enrichConversation(pool, key);
    if (phase.kind === 'routing') await routeByFlow(pool, key);
    if (phase.kind === 'assigning') await assignRouted(pool, key);
    if (phase.kind === 'closing') await executeClose(pool, key);
  }
}

/** What the relay does with the rows that ingest writes for quiet conversations. */
async function wakeAll(pool: pg.Pool, workspaceId: string): Promise<void> {
  const { rows } = await pool.query<{ contactId: string; conversationId: string }>(
    `DELETE FROM outbox WHERE workspace_id = $1 AND wake_conversation_id IS NOT NULL
     RETURNING contact_id AS "contactId", wake_conversation_id AS "conversationId"`,
    [workspaceId],
  );
  for (const row of rows) await wakeConversation(pool, { workspaceId, ...row });
}

/** As if everything in the workspace had happened so much earlier. */
async function letTimePass(pool: pg.Pool, workspaceId: string, seconds: number): Promise<void> {
  for (const [table, columns] of Object.entries(times)) {
    const moved = columns.map((column) => `${column} = ${column} - $2 * interval '1 s'`).join(', ');
    const { rowCount } = await pool.query(`UPDATE ${table} SET ${moved} WHERE workspace_id = $1`, [
      workspaceId,
      seconds,
    ]);
    expect(rowCount).toBeGreaterThan(0);
  }
}

const times = {
  conversations: [
    ...['opened_at', 'routed_at', 'waiting_since', 'assigned_at', 'close_requested_at', 'closed_at', 'progressed_at'],
    ...['queued_at', 'awaited_until', 'offer_expires_at', 'quiet_since', 'return_at', 'due_at'],
  ],
  messages: ['received_at'],
  agents: ['last_assigned_at'],
  agent_presence: ['changed_at', 'heartbeat_at', 'expires_at'],
};
