/** The flow's document as it is described to whoever writes flows: in the OpenAPI document, and as JSON Schema of its own. */
import { Type } from '@fastify/type-provider-typebox';
import { faultKeywords } from '../routing/fault-words.ts';
import { FlowDocument } from '../routing/flow-schema.ts';

const teamId = '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11';
const otherTeamId = '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b12';

const askingFlow = {
  trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact'" },
  hours: {
    office: {
      timeZone: 'Europe/Berlin',
      weekly: { monday: [{ from: '09:00', to: '17:00' }], friday: [{ from: '09:00', to: '13:00' }] },
      holidays: [{ date: '2026-12-25' }],
    },
  },
  enrichment: [
    { kind: 'language', field: 'language', minConfidence: 0.6, otherwise: 'en' },
    {
      kind: 'ask',
      field: 'purpose',
      text: 'Hello! What is it about?',
      choices: [
        { value: 'sales', label: 'Buying', synonyms: ['price', 'offer'] },
        { value: 'support', label: 'Help with an order' },
      ],
      timeoutSeconds: 600,
      giveUp: { value: 'support' },
    },
    {
      kind: 'http',
      when: "fields.purpose == 'support'",
      method: 'GET',
      url: 'https://crm.example.com/customers/{{contact.id}}',
      headers: { authorization: { secret: 'crm' } },
      timeoutMs: 2000,
      fields: { tier: '/tier' },
    },
  ],
  routing: {
    branches: [
      { name: 'Closed', when: '!hours.office.open', close: true, text: 'We are back on Monday at nine.' },
      {
        name: 'Sales',
        when: "fields.purpose == 'sales' && team.waiting < 20",
        teamId,
        priority: 10,
        slaSeconds: 120,
        requirements: [{ skillFromField: 'language', level: 3 }],
        rings: [
          { afterSeconds: 60, relax: [{ skillFromField: 'language', level: 1 }] },
          { afterSeconds: 180, overflowTeamId: otherTeamId },
          { afterSeconds: 900, fallback: 'close', text: 'Nobody is free now. Please write again later.' },
        ],
      },
    ],
    otherwise: {
      split: [
        { percent: 80, teamId: otherTeamId },
        { percent: 20, teamId },
      ],
    },
  },
};

const localFlow = {
  trigger: { on: 'conversation.opened', condition: "channel.key == 'mail'" },
  enrichment: [
    { kind: 'set', field: 'origin', value: 'mail' },
    { kind: 'contact', fields: { tier: 'attributes/tier', lastAgent: 'lastAgentId', visits: 'conversationCount' } },
    {
      kind: 'keywords',
      field: 'purpose',
      rules: [{ value: 'billing', keywords: ['invoice', 'rechnung'] }],
    },
    {
      kind: 'classify',
      when: '!has(fields.purpose)',
      field: 'purpose',
      labels: [{ label: 'billing', description: 'Invoices and payments' }, { label: 'general' }],
      minConfidence: 0.7,
      otherwise: 'general',
      timeoutMs: 3000,
    },
  ],
  routing: {
    branches: [{ name: 'Billing', when: "fields.purpose == 'billing'", teamId, priority: 10 }],
    otherwise: { teamId: otherTeamId },
  },
};

/** What is written may lack what has defaults. */
const { trigger, ...members } = FlowDocument.properties;

export const DocumentedDocument = {
  ...FlowDocument,
  required: ['routing'],
  properties: { trigger: { ...trigger, required: [] }, ...members },
  description:
    'What the flow does. Conditions are CEL expressions over `conversation` (source, priority), `contact` (id, name, attributes), ' +
    '`channel` (key, name), `message` (text of the first messages), `hours.<name>.open`, and, after the trigger, `fields` (what enrichment ' +
    'found); those of branches also over `team` (waiting, onlineAgents, longestWaitSeconds of the branch’s own team). A condition that cannot ' +
    'be evaluated, as for a field that is not there, counts as false. Texts to the contact may hold `{{contact.name}}`, `{{fields.purpose}}` ' +
    'and the like.\n\n' +
    'Steps of `enrichment`, each with an optional `when`: `set`, `keywords`, `language`, `contact`, `ask` (a question to the contact, which the ' +
    'conversation waits for), `http` (another system is asked) and `classify` (a language model chooses one of the labels). Each sets fields; one ' +
    'that fails is told, and the flow goes on.\n\n' +
    'The first branch whose condition is true decides, else `otherwise`: exactly one of `teamId`, `split` (shares of the contacts) and `close`, ' +
    'with `priority`, `slaSeconds`, a `text` that the contact is sent and a `webhookUrl` that is told. It may ask for skills (`requirements`: ' +
    'named outright, or by the text of a field) and tell what changes while nobody is found (`rings`: lower levels, then another team, and in ' +
    'the end a fallback).',
  examples: [askingFlow, localFlow],
};

/** Checked openly: the flow's own check names every fault, and what to do about it. */
export const OpenDocument = Type.Unsafe<unknown>({});

/**
 * For editors and whoever checks flows where no Switchyard runs; what a schema cannot tell is told by `POST /v1/flows/validate`. Without the
 * members that only our own words for faults read: strict validators refuse keywords that they do not know.
 */
export function flowJsonSchema(): Record<string, unknown> {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Switchyard flow document',
    ...(JSON.parse(
      JSON.stringify(DocumentedDocument, (key, value: unknown) => (faultKeywords.includes(key) ? undefined : value)),
    ) as object),
  };
}
