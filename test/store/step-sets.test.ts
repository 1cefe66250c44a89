/** Opening, enriching and routing many at once gives what one after the other gives, and nobody waits for another's contact. */
import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { openForContact, openForContacts } from '../../store/opening.ts';
import { readPhases } from '../../store/phases.ts';
import { enrichConversation, enrichConversations } from '../../store/enriching.ts';
import { routeByFlow, routeByFlows } from '../../store/routing.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { countDeadlocks } from '../support/deadlocks.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let another: pg.Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  another = connectAnother(database);
});
afterAll(async () => {
  await another?.end();
  await database?.drop();
});

const kinds = ['nothing', 'pending', 'open', 'closing', 'stranger'] as const;
const texts = ['refund', 'invoice', 'plan', 'hello'] as const;

const situation = fc.record({
  home: fc.nat({ max: 2 }),
  kind: fc.constantFrom(...kinds, 'pending', 'pending'),
  texts: fc.array(fc.constantFrom(...texts), { minLength: 1, maxLength: 3 }),
});

test('many at once: the same rows, events and decisions as one after the other, whatever each contact’s situation', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(situation, { minLength: 2, maxLength: 10 }), async (situations) => {
      const together = await act(situations, 'together');
      expect(together).toEqual(await act(situations, 'singly'));
    }),
    { numRuns: 12 },
  );
});

test('a contact that somebody holds is left for later, and the others are opened', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const contacts = await Promise.all([1, 2, 3].map(async () => ({ workspaceId, ...(await stage.write(newId())) })));
  const holder = await another.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM contacts WHERE id = $1 FOR UPDATE', [contacts[1]!.contactId]);
  const openings = await openForContacts(database.pool, contacts);
  expect(openings.map(({ opened }) => opened)).toEqual([true, false, true]);
  expect(openings[1]!.phase).toEqual({ kind: 'pending' });
  const later = openForContact(database.pool, contacts[1]!);
  await holder.query('COMMIT');
  holder.release();
  expect(await later).toMatchObject({ opened: true, phase: { kind: 'assigning' } });
});

test('two processes with the same fifty contacts, in opposite orders: each is opened and routed once, without a deadlock', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  await publish(stage, plainFlow(stage));
  const contacts = await Promise.all(
    Array.from({ length: 50 }, async () => ({ workspaceId, contactId: (await stage.write(newId())).contactId })),
  );
  const orders = [contacts, contacts.toReversed()];
  const pools = [database.pool, another];
  const openings = await Promise.all(orders.map((order, i) => openForContacts(pools[i]!, order)));
  // Whom both skipped because the other held it: what the batches' caller does.
  for (const contact of contacts) await openForContact(database.pool, contact);
  const phases = await readPhases(database.pool, contacts);
  const keys = contacts.map((contact, i) => {
    const phase = phases[i]!;
    if (phase.kind !== 'routing') throw new Error(phase.kind);
    return { ...contact, conversationId: phase.conversationId };
  });
  const openedTwice = openings.flat().filter(({ opened }) => opened).length > contacts.length;
  expect(openedTwice).toBe(false);
  const routed = await Promise.all([keys, keys.toReversed()].map((order, i) => routeByFlows(pools[i]!, order)));
  for (const key of keys) await routeByFlow(database.pool, key);
  expect(routed.flat().filter((route) => route !== null).length).toBeLessThanOrEqual(keys.length);
  for (const { contactId, conversationId } of keys) {
    expect(await stage.conversationsOf(contactId)).toHaveLength(1);
    expect(await stage.eventsOf(conversationId)).toEqual([
      'conversation.opened',
      'message.received',
      'conversation.routed',
    ]);
  }
  expect(await countDeadlocks(database.pool)).toBe(0);
});

test('a contact that writes while its conversation is opened: all messages are in it, and in order', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  for (let round = 0; round < 15; round += 1) {
    const contact = newId();
    const { contactId } = await stage.write(contact);
    const [opening] = await Promise.all([
      openForContact(another, { workspaceId, contactId }),
      stage.write(contact),
      stage.write(contact),
    ]);
    const [conversation] = await stage.conversationsOf(contactId);
    expect(opening).toMatchObject({ opened: true, phase: { conversationId: conversation!.id } });
    const messages = await stage.messagesOf(contactId);
    expect(messages.map(({ conversationId }) => conversationId)).toEqual(messages.map(() => conversation!.id));
  }
});

test('what is published decides the very next opening, also in another process', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const { contactId: before } = await stage.write(newId());
  const { contactId: after } = await stage.write(newId());
  expect(await openForContact(another, { workspaceId, contactId: before })).toMatchObject({
    phase: { kind: 'assigning' },
  });
  await publish(stage, plainFlow(stage));
  expect(await openForContact(another, { workspaceId, contactId: after })).toMatchObject({
    phase: { kind: 'routing' },
  });
});

test('a person acts between opening and routing: what was handed on does nothing', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  await publish(stage, plainFlow(stage));
  const { contactId } = await stage.write(newId());
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'routing') throw new Error(phase.kind);
  const key = { workspaceId, contactId, conversationId: phase.conversationId };
  await requestClose(database.pool, { workspaceId, conversationId: key.conversationId, agentId: null });
  expect(await routeByFlow(database.pool, key)).toBeNull();
  expect(await stage.eventsOf(key.conversationId)).not.toContain('conversation.routed');
});

type Situation = typeof situation extends fc.Arbitrary<infer Value> ? Value : never;

/** Sets the situations up in workspaces of their own, takes all through opening, enriching and routing, and tells what is then written. */
async function act(situations: readonly Situation[], how: 'together' | 'singly'): Promise<string[]> {
  const { pool } = database;
  const homes = [await createStage(pool), await createStage(pool), await createStage(pool)];
  await publish(homes[1]!, {
    ...plainFlow(homes[1]!),
    trigger: { on: 'conversation.opened', condition: "contact.attributes.plan == 'x'" },
  });
  await publish(homes[1]!, plainFlow(homes[1]!));
  const enrichment = [{ kind: 'set', field: 'topic', value: 'plan' }];
  await publish(homes[2]!, { ...plainFlow(homes[2]!), enrichment });
  const contacts: { workspaceId: string; contactId: string }[] = [];
  for (const each of situations) contacts.push(await setUp(homes[each.home]!, each));

  const openings =
    how === 'together'
      ? await openForContacts(pool, contacts)
      : await inTurn(contacts, (contact) => openForContact(pool, contact));
  const keysIn = (kind: 'enriching' | 'routing', phases: Awaited<ReturnType<typeof readPhases>>) =>
    contacts.flatMap((contact, i) => {
      const phase = phases[i]!;
      return phase.kind === kind ? [{ ...contact, conversationId: phase.conversationId }] : [];
    });
  const toEnrich = keysIn('enriching', await readPhases(pool, contacts));
  if (how === 'together') await enrichConversations(pool, toEnrich);
  else await inTurn(toEnrich, (key) => enrichConversation(pool, key));
  const toRoute = keysIn('routing', await readPhases(pool, contacts));
  if (how === 'together') await routeByFlows(pool, toRoute);
  else await inTurn(toRoute, (key) => routeByFlow(pool, key));
  const tales = await inTurn(contacts, tell);
  return tales.map((tale, i) => withoutIds([openings[i], tale]));
}

async function inTurn<Item, Result>(items: readonly Item[], work: (item: Item) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

async function setUp(stage: Stage, { kind, texts: written }: Situation) {
  const { workspaceId } = stage;
  if (kind === 'stranger') return { workspaceId, contactId: newId() };
  const contact = newId();
  const { contactId } = await stage.write(contact, { text: written[0]! });
  if (kind !== 'pending') {
    const { phase } = await openForContact(database.pool, { workspaceId, contactId });
    if (!('conversationId' in phase)) throw new Error(phase.kind);
    const { conversationId } = phase;
    if (kind === 'closing') await requestClose(database.pool, { workspaceId, conversationId, agentId: null });
    if (kind === 'nothing') await stage.close({ contactId, conversationId });
  }
  if (kind !== 'nothing') for (const text of written.slice(1)) await stage.write(contact, { text });
  return { workspaceId, contactId };
}

/** Everything that is written about a contact, but for times. */
async function tell({ workspaceId, contactId }: { workspaceId: string; contactId: string }): Promise<unknown> {
  const { rows } = await database.pool.query<{ tale: unknown }>(
    `SELECT jsonb_build_object(
       'contact', (SELECT to_jsonb(c) - 'created_at' FROM contacts c WHERE c.workspace_id = $1 AND c.id = $2),
       'conversations', (SELECT jsonb_agg(to_jsonb(v) - '{opened_at,routed_at,waiting_since,assigned_at,close_requested_at,closed_at,progressed_at}'::text[]
                                          || jsonb_build_object('routed', routed_at IS NOT NULL) ORDER BY v.id)
                         FROM conversations v WHERE v.workspace_id = $1 AND v.contact_id = $2),
       'messages', (SELECT jsonb_agg(jsonb_build_object('sequence', m.sequence, 'in', m.conversation_id) ORDER BY m.sequence)
                    FROM messages m WHERE m.workspace_id = $1 AND m.contact_id = $2),
       'events', (SELECT jsonb_agg(jsonb_build_array(e.type, e.conversation_id, e.data) ORDER BY e.id)
                  FROM events e WHERE e.workspace_id = $1 AND e.contact_id = $2),
       'decisions', (SELECT jsonb_agg(jsonb_build_array(d.kind, d.conversation_id, d.detail - 'tookMs') ORDER BY d.id)
                     FROM decisions d JOIN conversations v ON v.workspace_id = d.workspace_id AND v.id = d.conversation_id
                     WHERE v.workspace_id = $1 AND v.contact_id = $2)) AS tale`,
    [workspaceId, contactId],
  );
  return rows[0]!.tale;
}

/** Each id becomes its place of first appearance, so that two tales are the same where only the ids differ. */
function withoutIds(tale: unknown): string {
  const places = new Map<string, string>();
  return JSON.stringify(tale).replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) => {
    if (!places.has(id)) places.set(id, `#${places.size}`);
    return places.get(id)!;
  });
}

const plainFlow = ({ defaultTeamId: teamId }: Stage) => ({
  routing: {
    branches: [{ name: 'Refunds', when: "message.text.contains('refund')", teamId, priority: 7 }],
    otherwise: { teamId, priority: 1 },
  },
});

async function publish({ workspaceId }: Stage, document: unknown): Promise<void> {
  const created = await createFlow(database.pool, { workspaceId, name: newId(), description: '', document });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
}
