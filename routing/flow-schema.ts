/** The shape of a flow's document: as type, as what validation goes by, and as JSON Schema for whoever writes flows. */
import { Type, type Static } from 'typebox';
import { TEXT_FORMS } from './text-forms.ts';
import { requirementMembers } from './flow-requirements.ts';
import { Hours } from './hours-schema.ts';

export type { BusinessHours } from './hours-schema.ts';

export const MAX_STEPS = 20;
export const MAX_BRANCHES = 50;
export const MAX_QUESTIONS = 5;

const Name = Type.String({ minLength: 1, maxLength: 100, ...TEXT_FORMS.notBlank });
const FieldName = Type.String({ ...TEXT_FORMS.fieldName });
const FieldValueSchema = Type.Union([Type.String({ maxLength: 1000 }), Type.Number(), Type.Boolean()], {
  fault: 'is no field value',
  mend: 'Give a text of at most 1000 characters, a number, true or false.',
});
const Priority = Type.Integer({ minimum: 0, maximum: 100, description: 'Higher is served first' });
const TeamId = Type.String({ ...TEXT_FORMS.teamId });
const Close = Type.Literal(true, { description: 'The conversation is closed', mend: 'Give true, or leave it out.' });
const TimeoutMs = Type.Integer({ minimum: 100, maximum: 10_000 });
const Confidence = Type.Number({ minimum: 0, maximum: 1 });

const Condition = (scope: string) =>
  Type.String({ minLength: 1, maxLength: 2048, description: `CEL over ${scope}; one that fails counts as false` });

/** With `{{fields.purpose}}` and the like; see template.ts. */
const Template = (maxLength: number, description: string) =>
  Type.String({ minLength: 1, maxLength, ...TEXT_FORMS.notBlank, description });
const MessageText = Template(4096, 'To the contact; may hold {{contact.name}} and the like');
const WebAddress = Type.String({ maxLength: 2048, ...TEXT_FORMS.url });

/** Members of every step. */
const stepMembers = {
  when: Type.Optional(Condition('conversation, contact, channel, message, hours and the fields found so far')),
};

export const SetStep = Type.Object(
  { kind: Type.Literal('set'), ...stepMembers, field: FieldName, value: FieldValueSchema },
  { additionalProperties: false },
);

export const KeywordsStep = Type.Object(
  {
    kind: Type.Literal('keywords'),
    ...stepMembers,
    field: FieldName,
    rules: Type.Array(
      Type.Object(
        {
          value: FieldValueSchema,
          keywords: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { minItems: 1, maxItems: 50 }),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 50, description: 'The first rule with a keyword in the text gives the value' },
    ),
    otherwise: Type.Optional(FieldValueSchema),
  },
  { additionalProperties: false },
);

export const LanguageStep = Type.Object(
  {
    kind: Type.Literal('language'),
    ...stepMembers,
    field: FieldName,
    confidenceField: Type.Optional(FieldName),
    minConfidence: Type.Optional(Confidence),
    otherwise: Type.Optional(
      Type.String({ maxLength: 1000, description: 'Where no language is found with the confidence asked for' }),
    ),
  },
  { additionalProperties: false, description: 'The language of the message, as ISO 639-1' },
);

/** What a `contact` step can tell; `attributes/<name>` besides. */
export const contactSources = ['name', 'lifecycle', 'conversationCount', 'lastAgentId', 'lastCategory'] as const;

export const ContactStep = Type.Object(
  {
    kind: Type.Literal('contact'),
    ...stepMembers,
    fields: Type.Record(FieldName, Type.String({ maxLength: 100, ...TEXT_FORMS.contactSource }), {
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 50,
      names: TEXT_FORMS.fieldName,
      description: `Field name to one of ${contactSources.join(', ')}, or attributes/<name>. Lifecycle is the attribute of that name`,
    }),
  },
  { additionalProperties: false },
);

const Choice = Type.Object(
  {
    value: FieldValueSchema,
    label: Type.String({ minLength: 1, maxLength: 100, ...TEXT_FORMS.notBlank }),
    synonyms: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 50 })),
  },
  { additionalProperties: false },
);

/** What becomes of the conversation where no answer fits or none comes. */
const GiveUp = Type.Object(
  {
    value: Type.Optional(FieldValueSchema),
    teamId: Type.Optional(TeamId),
    priority: Type.Optional(Priority),
    close: Type.Optional(Close),
    text: Type.Optional(MessageText),
  },
  {
    additionalProperties: false,
    description:
      'At most one of value (the field gets it and the flow goes on), teamId (straight to that team) and close; none: the flow goes on ' +
      'without the field. `text` is sent to the contact',
  },
);

export const AskStep = Type.Object(
  {
    kind: Type.Literal('ask'),
    ...stepMembers,
    field: FieldName,
    text: MessageText,
    choices: Type.Optional(Type.Array(Choice, { minItems: 1, maxItems: 20 })),
    pattern: Type.Optional(
      Type.String({ minLength: 1, maxLength: 500, description: 'RE2 that a free answer must match' }),
    ),
    test: Type.Optional(Condition('answer (the text), besides what conditions of steps may name')),
    retryText: Type.Optional(MessageText),
    maxQuestions: Type.Optional(
      Type.Integer({ minimum: 1, maximum: MAX_QUESTIONS, default: 2, description: 'How often it is asked at most' }),
    ),
    timeoutSeconds: Type.Integer({
      minimum: 5,
      maximum: 604_800,
      description: 'For an answer, anew for each question',
    }),
    settleSeconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 60,
        default: 2,
        description: 'What comes within so many seconds of each other is one answer',
      }),
    ),
    giveUp: Type.Optional(GiveUp),
  },
  { additionalProperties: false },
);

export const HttpStep = Type.Object(
  {
    kind: Type.Literal('http'),
    ...stepMembers,
    method: Type.Optional(Type.Enum(['GET', 'POST'], { default: 'POST' })),
    url: Type.String({
      maxLength: 2048,
      ...TEXT_FORMS.urlTemplate,
      description: 'Values put into it are percent-encoded; none in the host',
    }),
    headers: Type.Optional(
      Type.Record(
        Type.String({ ...TEXT_FORMS.headerName }),
        Type.Union(
          [
            Type.String({ maxLength: 1000 }),
            Type.Object({ secret: Type.String({ ...TEXT_FORMS.secretName }) }, { additionalProperties: false }),
          ],
          {
            fault: 'is no value of a header',
            mend: 'Give a text of at most 1000 characters, or {"secret": "<name of a secret>"}.',
          },
        ),
        {
          additionalProperties: false,
          maxProperties: 20,
          names: TEXT_FORMS.headerName,
          description: 'A template, or the name of a secret that the operator keeps',
        },
      ),
    ),
    body: Type.Optional(
      Type.Unsafe<unknown>({
        description: 'JSON whose texts are templates; left out: conversationId, contact, channel, text and fields',
      }),
    ),
    timeoutMs: TimeoutMs,
    retries: Type.Optional(Type.Integer({ minimum: 0, maximum: 5, default: 2 })),
    onFailure: Type.Optional(
      Type.Enum(['continue', 'fallBack'], {
        default: 'continue',
        description: 'fallBack: the default team gets it, marked',
      }),
    ),
    fields: Type.Record(FieldName, Type.String({ maxLength: 500, ...TEXT_FORMS.jsonPointer }), {
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 50,
      names: TEXT_FORMS.fieldName,
      description: 'Field name to JSON pointer into the response',
    }),
  },
  { additionalProperties: false },
);

export const ClassifyStep = Type.Object(
  {
    kind: Type.Literal('classify'),
    ...stepMembers,
    field: FieldName,
    labels: Type.Array(
      Type.Object(
        {
          label: Type.String({ minLength: 1, maxLength: 100, ...TEXT_FORMS.notBlank }),
          description: Type.Optional(Type.String({ maxLength: 500 })),
        },
        { additionalProperties: false },
      ),
      { minItems: 2, maxItems: 30 },
    ),
    instructions: Type.Optional(Type.String({ maxLength: 2000, description: 'For the model; no templates' })),
    minConfidence: Type.Optional(Confidence),
    otherwise: Type.String({
      minLength: 1,
      maxLength: 100,
      description: 'The value where the model cannot tell, or cannot be reached',
    }),
    timeoutMs: TimeoutMs,
    maxTokens: Type.Optional(Type.Integer({ minimum: 16, maximum: 1000, default: 100 })),
    onFailure: Type.Optional(Type.Enum(['continue', 'fallBack'], { default: 'continue' })),
  },
  { additionalProperties: false },
);

export const STEP_SCHEMAS = {
  set: SetStep,
  keywords: KeywordsStep,
  language: LanguageStep,
  contact: ContactStep,
  ask: AskStep,
  http: HttpStep,
  classify: ClassifyStep,
};

export const EnrichmentStep = Type.Union(
  Object.values(STEP_SCHEMAS) as [
    typeof SetStep,
    typeof KeywordsStep,
    typeof LanguageStep,
    typeof ContactStep,
    typeof AskStep,
    typeof HttpStep,
    typeof ClassifyStep,
  ],
);

export const Trigger = Type.Object(
  {
    on: Type.Literal('conversation.opened'),
    condition: Condition('conversation, contact, channel, message and hours'),
  },
  { additionalProperties: false },
);

/** Where a branch sends a conversation: one of teamId, split and close. */
const destinationMembers = {
  teamId: Type.Optional(TeamId),
  split: Type.Optional(
    Type.Array(
      Type.Object(
        { percent: Type.Integer({ minimum: 1, maximum: 99 }), teamId: TeamId },
        { additionalProperties: false },
      ),
      { minItems: 2, maxItems: 10, description: 'Shares of the contacts, 100 in sum; a contact keeps its team' },
    ),
  ),
  close: Type.Optional(Close),
  priority: Type.Optional(Priority),
  slaSeconds: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 604_800, description: "Wait aimed at; left out: the team's" }),
  ),
  text: Type.Optional(MessageText),
  webhookUrl: Type.Optional(WebAddress),
  ...requirementMembers,
};

export const Branch = Type.Object(
  {
    name: Name,
    when: Condition('conversation, contact, channel, message, hours, fields and the load of its team'),
    ...destinationMembers,
  },
  { additionalProperties: false },
);

export const Routing = Type.Object(
  {
    branches: Type.Array(Branch, {
      maxItems: MAX_BRANCHES,
      description: 'The first branch whose condition is true decides',
    }),
    otherwise: Type.Object(destinationMembers, { additionalProperties: false }),
  },
  { additionalProperties: false },
);

/** What a flow does, apart from its name and description: when it runs, what it finds out, and where the conversation goes. */
export const FlowDocument = Type.Object(
  {
    trigger: Trigger,
    hours: Type.Optional(Hours),
    enrichment: Type.Array(EnrichmentStep, { maxItems: MAX_STEPS }),
    routing: Routing,
  },
  { additionalProperties: false },
);

export type FlowDocument = Static<typeof FlowDocument>;
export type EnrichmentStep = Static<typeof EnrichmentStep>;
export type SetStep = Static<typeof SetStep>;
export type KeywordsStep = Static<typeof KeywordsStep>;
export type LanguageStep = Static<typeof LanguageStep>;
export type ContactStep = Static<typeof ContactStep>;
export type AskStep = Static<typeof AskStep>;
export type HttpStep = Static<typeof HttpStep>;
export type ClassifyStep = Static<typeof ClassifyStep>;
export type NetworkStep = HttpStep | ClassifyStep;
export type FlowBranch = Static<typeof Branch>;
export type FlowDestination = FlowDocument['routing']['otherwise'];
