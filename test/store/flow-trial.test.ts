/** What a try tells of a flow that asks, beside what the same flow does with the same messages in earnest. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { enrichConversation } from '../../store/enriching.ts';
import { runFlowTrial } from '../../store/flow-trial.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { openForContact } from '../../store/opening.ts';
import { routeByFlow } from '../../store/routing.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;
beforeAll(async () => void (database = await createTestDatabase()));
afterAll(() => database?.drop());

/** The contact's messages: the first, and those that answer each question; without any, its time passes. */
interface Talk {
  readonly text: string;
  readonly answers: readonly (readonly string[])[];
}

/** One flow, to be tried and to be run. */
async function prepare() {
  const { pool } = database;
  const stage = await createStage(pool);
  const { workspaceId, defaultTeamId: teamId } = stage;
  const billing = await stage.addTeam();
  const created = await createFlow(pool, {
    workspaceId,
    name: 'Asking',
    description: '',
    document: documentOf(teamId, billing),
  });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  const flowId = created.flow.id;
  await publishFlow(pool, { workspaceId, flowId });

  async function attempt({ text, answers }: Talk): Promise<Outcome> {
    const flow = { flowId, version: 'live' } as const;
    const tried = await runFlowTrial(pool, {
      workspaceId,
      flow,
      channel: null,
      contact: {},
      text,
      atMs: null,
      answers,
      responses: {},
    });
    if (tried.kind !== 'tried' || tried.route?.kind !== 'team') throw new Error(tried.kind);
    const { fields, fieldSources: sources, messages, route } = tried;
    return { fields, sources, texts: messages.map((message) => message.text), branch: route.branch };
  }

  async function run({ text, answers }: Talk): Promise<Outcome> {
    const contact = newId();
    const { contactId } = await stage.write(contact, { text });
    const { phase: opened } = await openForContact(pool, { workspaceId, contactId });
    if (opened.kind !== 'enriching') throw new Error(opened.kind);
    const key = { workspaceId, contactId, conversationId: opened.conversationId };
    const left = [...answers];
    let { phase } = await enrichConversation(pool, key);
    while (phase?.kind === 'asking') {
      const texts = left.shift();
      for (const answer of texts ?? []) await stage.write(contact, { text: answer });
      if (texts === undefined) {
        await pool.query("UPDATE conversations SET answer_until = now() - interval '1 s' WHERE id = $1", [
          key.conversationId,
        ]);
      }
      ({ phase } = await enrichConversation(pool, key));
    }
    if ((await routeByFlow(pool, key)) === null) throw new Error('not routed');
    const { rows } = await pool.query<Outcome>(
      `SELECT fields, field_sources AS sources,
              ARRAY(SELECT m.text FROM messages m WHERE m.workspace_id = v.workspace_id AND m.conversation_id = v.id
                      AND m.direction = 'outbound' ORDER BY m.sequence) AS texts,
              (SELECT detail ->> 'branch' FROM decisions d WHERE d.workspace_id = v.workspace_id
                 AND d.conversation_id = v.id AND d.kind = 'routing') AS branch
       FROM conversations v WHERE v.workspace_id = $1 AND v.id = $2`,
      [workspaceId, key.conversationId],
    );
    return rows[0]!;
  }

  return { attempt, run };
}

interface Outcome {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly sources: Readonly<Record<string, unknown>>;
  readonly texts: readonly string[];
  readonly branch: string | null;
}

/** Whatever looks at the text stands behind a question as well as before it. */
function documentOf(teamId: string, billing: string) {
  const keywords = [{ value: 'billing', keywords: ['invoice'] }];
  const ask = { kind: 'ask', timeoutSeconds: 600, settleSeconds: 0 };
  return {
    enrichment: [
      { kind: 'keywords', field: 'before', rules: keywords, otherwise: 'unknown' },
      { ...ask, field: 'what', text: 'What is it about?', pattern: '[a-z]{4}', maxQuestions: 3 },
      { kind: 'keywords', field: 'after', rules: keywords, otherwise: 'unknown' },
      { kind: 'set', field: 'urgent', value: true, when: "message.text.contains('now')" },
      {
        ...ask,
        field: 'sure',
        when: "fields.after == 'billing'",
        text: 'You wrote: {{message.text}}. Is that all?',
        choices: [
          { value: true, label: 'Yes' },
          { value: false, label: 'No' },
        ],
      },
    ],
    routing: {
      branches: [
        { name: 'Now', when: "message.text.endsWith('now')", teamId: billing },
        { name: 'Billing', when: "message.text.contains('invoice')", teamId: billing, text: '{{message.text}}' },
      ],
      otherwise: { teamId },
    },
  };
}

test('what is answered is part of the text for what comes after it, as in earnest', async () => {
  const { attempt, run } = await prepare();
  const talk = { text: 'Hello', answers: [['my invoice'], ['yes']] };
  const tried = await attempt(talk);
  expect(tried).toMatchObject({
    fields: { before: 'unknown', after: 'billing', sure: true },
    branch: 'Billing',
    texts: ['What is it about?', 'You wrote: Hello\nmy invoice. Is that all?', 'Hello\nmy invoice\nyes'],
  });
  expect(tried).toEqual(await run(talk));
});

test('texts count as far as they are read in earnest: ten of the thread, cut at the same place', async () => {
  const { attempt, run } = await prepare();
  const many = (...last: string[]) => [
    ...Array.from({ length: 10 - last.length }, (_, place) => `part ${place}`),
    ...last,
  ];
  for (const talk of [
    // The tenth answer is the eleventh message.
    { text: 'Hello', answers: [many('invoice'), ['no']] },
    { text: 'Hello', answers: [many('invoice', 'well'), ['no']] },
    // Cut before half a character, there is still no room for more.
    { text: `${'x'.repeat(4095)}😀`, answers: [['invoice now']] },
    { text: 'x'.repeat(4087), answers: [['invoice now'], ['yes']] },
    {
      text: '',
      answers: [
        ['', 'invoice'],
        ['', 'yes now'],
      ],
    },
  ]) {
    expect(await attempt(talk), JSON.stringify(talk).slice(0, 200)).toEqual(await run(talk));
  }
});

test('a try tells what happens in earnest, whatever is written', async () => {
  const { attempt, run } = await prepare();
  const message = fc.constantFrom('Hello', 'my invoice', '4', 'yes', 'now', 'no', '');
  const talks = fc.record({
    text: message,
    answers: fc.array(fc.array(message, { minLength: 1, maxLength: 4 }), { maxLength: 5 }),
  });
  await fc.assert(
    fc.asyncProperty(talks, async (talk) => {
      expect(await attempt(talk)).toEqual(await run(talk));
    }),
    { numRuns: 30 },
  );
});
