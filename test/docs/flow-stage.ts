/** Plays an example of docs/flows.md: everything by HTTP, in a workspace of its own, with what the contacts and other systems see. */
import type pg from 'pg';
import { expect } from 'vitest';
import type { ApiClient } from '../support/api-client.ts';
import { eventually } from '../support/eventually.ts';
import type { RecordedRequest } from '../support/recording-server.ts';
import { waitUntilAllSent } from '../support/settled.ts';
import { parseHours, type Example, type IsOpen, type Step } from './flow-example.ts';
import type { Outside } from './flow-outside.ts';

interface FlowSetting {
  readonly api: ApiClient;
  readonly ingestKey: string;
  readonly workspaceId: string;
  readonly pool: pg.Pool;
  readonly outside: Outside;
}

type Setting = Pick<Example, 'document' | 'teams' | 'agents' | 'contacts' | 'now'>;

/** Teams, agents, the channel and the published flow. */
export async function setFlowStage({ api, ingestKey, workspaceId, pool, outside }: FlowSetting, example: Setting) {
  const teams = new Map<string, string>();
  const agents = new Map<string, string>();
  const people = new Map<string, Person>();

  async function prepare() {
    const channel = await api.post('/v1/channels', { key: 'chat', name: 'Chat', outboundUrl: outside.channelUrl });
    for (const [name, settings] of Object.entries(example.teams)) {
      teams.set(name, (await api.post('/v1/teams', { name, ...settings })).id);
    }
    for (const { team, presence = 'online', ...agent } of example.agents) {
      const { id } = await api.post('/v1/agents', { skills: {}, ...agent, teamIds: [idIn(teams, team)] });
      agents.set(agent.name, id);
      if (presence !== 'offline') await insist('PUT', `/v1/agents/${id}/presence`, { status: presence });
    }
    const document = withIds(example.document);
    expect(await api.post('/v1/flows/validate', { document })).toMatchObject({ valid: true, faults: [] });
    const flow = await api.post('/v1/flows', { name: 'Example', document: documentAt(example.now) });
    await api.post(`/v1/flows/${flow.id}/publish`);
    const { webhookSecret } = await api.post('/v1/workspace/rotate-webhook-secret');
    const secrets = { channelSecret: channel.outboundSecret as string, webhookSecret: webhookSecret as string };
    return { document, flowId: flow.id as string, ...secrets };
  }

  async function insist(method: string, path: string, body: object): Promise<void> {
    const { status, body: answer } = await api.call(method, path, body);
    expect(status, `${method} ${path}: ${JSON.stringify(answer)}`).toBeLessThan(300);
  }

  /** Ids for names, and what runs here for the systems elsewhere; the hours as they are now, where that is told. */
  function documentAt(now: IsOpen | undefined): object {
    const document = withIds(example.document) as { hours?: Record<string, object> };
    if (now === undefined) return document;
    const hours = Object.entries(document.hours!).map(([name, calendar]) => {
      const weekly = now[name] === 'open' ? alwaysOpen : {};
      return [name, { ...calendar, weekly, holidays: [] }];
    });
    return { ...document, hours: Object.fromEntries(hours) };
  }

  function withIds(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(withIds);
    if (typeof value === 'string') return outside.reachable(value);
    if (typeof value !== 'object' || value === null) return value;
    const members = Object.entries(value).map(([key, member]) => [
      key,
      key === 'teamId' ? idIn(teams, member as string) : withIds(member),
    ]);
    return Object.fromEntries(members);
  }

  async function write(name: string, text: string): Promise<void> {
    const contact = { externalId: name, name, attributes: example.contacts?.[name] ?? {} };
    const message = { channel: 'chat', externalId: `${name}-${outside.nextNumber()}`, contact, text };
    const { status, body } = await api.call('POST', '/v1/messages', message, ingestKey);
    expect(status, JSON.stringify(body)).toBe(202);
    if (!people.has(name)) people.set(name, { contactId: body.contactId, teamId: null });
  }

  /** The conversation that the contact has, or had last. */
  async function conversationOf(name: string) {
    const { items } = await api.get(`/v1/conversations?contactId=${people.get(name)!.contactId}`);
    const sorted = items.toSorted((one: { id: string }, other: { id: string }) => (one.id < other.id ? 1 : -1));
    return sorted[0] ?? expect.fail(`${name} has no conversation.`);
  }

  async function perform(step: string): Promise<void> {
    for (const [form, act] of Object.entries(deeds)) {
      const match = new RegExp(`^${form}$`).exec(step);
      if (match !== null) return act(...match.slice(1));
    }
    throw new Error(`Nobody knows how to do this: ${step}`);
  }

  const deeds: Record<string, (...words: string[]) => Promise<void>> = {
    '(\\w+) writes: (.+)': (name, text) => write(name, text),
    '(\\w+) writes nothing': async () => {},
    '(\\w+) closes the conversation of (\\w+)(?: as (\\w+))?': async (agent, name, category) => {
      const { id } = await conversationOf(name);
      const by = agent === 'somebody' ? {} : { agentId: idIn(agents, agent) };
      await api.post(`/v1/conversations/${id}/close`, { ...by, ...(category && { category }) });
    },
    'the hours become: (.+)': async (words) => {
      await insist('PATCH', `/v1/flows/${flowId}`, { document: documentAt(parseHours(words)) });
      await api.post(`/v1/flows/${flowId}/publish`);
    },
    'https://crm.example.com goes down': async () => outside.goDown(),
    '(\\d+) seconds? pass(?:es)?': async (seconds) => {
      const beganAt = Date.now();
      await eventually(`${seconds} s`, () => Date.now() - beganAt > Number(seconds) * 1_000);
    },
  };

  /** Plays one step and waits until what it tells has come true. */
  async function play(step: Step): Promise<void> {
    const before = outside.count();
    await perform(step.step);
    const [, name] = /^(?:\w+ closes the conversation of )?(\w+)/.exec(step.step)!;
    if (!people.has(name!)) return;
    await eventually(step.step, async () => {
      await check(step, name!, outside.since(before));
      return true;
    });
    people.get(name!)!.teamId = (await conversationOf(name!)).teamId;
  }

  async function check(step: Step, name: string, seen: ReturnType<Outside['since']>): Promise<void> {
    const conversation = await conversationOf(name);
    expect(outlineOf(step, name, conversation)).toMatchObject(wantedOf(step));
    if (step.fields !== undefined) expect(conversation.fields).toMatchObject(step.fields);
    if (JSON.stringify(step.fields) === '{}') expect(conversation.fields).toEqual({});
    if (step.sources !== undefined) expect(conversation.fieldSources).toMatchObject(step.sources);
    expect(
      seen.sent.filter(({ data }) => data.contact.externalIds.includes(name)).map(({ data }) => data.text),
    ).toEqual(step.sent ?? []);
    expectRequests(seen.asked, step.asked);
    expectRequests(seen.told, step.told);
    if (step.because !== undefined) expect(await explain(conversation.id)).toContain(step.because);
  }

  /** What of the conversation a step may speak of, with names in place of ids. */
  function outlineOf({ team }: Step, name: string, conversation: Conversation) {
    const teamName = conversation.teamId === null ? null : nameIn(teams, conversation.teamId);
    const isOneOf = Array.isArray(team) && team.includes(teamName ?? '');
    const isSame = team === 'the same' && conversation.teamId === people.get(name)!.teamId;
    return {
      state: conversation.state,
      assigned: conversation.agentId === null ? null : nameIn(agents, conversation.agentId),
      team: isOneOf || isSame ? team : teamName,
      priority: conversation.priority,
      reason: conversation.closing?.reason ?? null,
      fellBack: conversation.fallbackReason !== null,
    };
  }

  async function explain(conversationId: string): Promise<string> {
    const { items } = await api.get(`/v1/conversations/${conversationId}/decisions`);
    return items.findLast(({ kind }: { kind: string }) => kind === 'assignment')?.summary ?? '';
  }

  async function settle(): Promise<void> {
    await waitUntilAllSent({ pool, workspaceId });
    expect(await api.get('/v1/deliveries?state=failed')).toMatchObject({ items: [] });
  }

  const { flowId, ...prepared } = await prepare();
  return { play, settle, ...prepared };
}

interface Person {
  readonly contactId: string;
  /** Of the conversation that the contact had last. */
  teamId: string | null;
}

interface Conversation {
  readonly state: string;
  readonly teamId: string | null;
  readonly agentId: string | null;
  readonly priority: number;
  readonly closing: { readonly reason?: string } | null;
  readonly fallbackReason: string | null;
}

function wantedOf({ state, assigned, team, priority, reason, fellBack }: Step) {
  const implied = assigned === undefined ? {} : { state: assigned === null ? 'waiting' : 'assigned' };
  const told = { state, assigned, team, priority, reason, fellBack };
  return { ...implied, ...Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined)) };
}

function expectRequests(requests: readonly RecordedRequest[], wanted: Step['asked']): void {
  if (wanted === undefined) return;
  const seen = requests.map(({ method, path, headers, body }) => ({
    request: `${method} https://${path.slice(1)}`,
    headers,
    body: body === '' ? {} : JSON.parse(body),
  }));
  expect(seen).toHaveLength(wanted.length);
  expect(seen).toMatchObject(wanted);
}

const wholeDay = [{ from: '00:00', to: '24:00' }];
const days = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'];
const alwaysOpen = Object.fromEntries(days.map((day) => [day, wholeDay]));

function idIn(ids: ReadonlyMap<string, string>, name: string): string {
  const id = ids.get(name);
  if (id === undefined) throw new Error(`Nothing is named ${name}; there are ${[...ids.keys()].join(', ')}.`);
  return id;
}

/** The default team is the only one that no example names. */
const nameIn = (ids: ReadonlyMap<string, string>, id: string): string =>
  [...ids].find(([, other]) => other === id)?.[0] ?? 'Default';
