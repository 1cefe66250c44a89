/** The shapes of the enrichment steps, with their limits and what counts where nothing is given. */
import { Type, type Static } from 'typebox';
import { MAX_FIELD_CHARS } from './facts.ts';
import { Close, Condition, FieldName, FieldValueSchema, MessageText, Priority, TeamId } from './schema-members.ts';
import { contactSources, MAX_ADDRESS_CHARS, TEXT_FORMS } from './text-forms.ts';

export const MAX_RULES = 50;
/** Of one rule. */
export const MAX_KEYWORDS = 50;
export const MAX_LABELS = 30;
export const MAX_CHOICES = 20;
/** Of one choice. */
export const MAX_SYNONYMS = 50;
export const MAX_ANSWER_PATTERN_CHARS = 500;
export const MAX_QUESTIONS = 5;
export const DEFAULT_MAX_QUESTIONS = 2;
export const DEFAULT_SETTLE_SECONDS = 2;
export const MAX_ANSWER_SECONDS = 604_800;
export const MAX_SETTLE_SECONDS = 60;
/** Of an `http` step, after the first attempt. */
export const DEFAULT_RETRIES = 2;
/** Of a model's answer. */
export const DEFAULT_MAX_TOKENS = 100;

const TimeoutMs = Type.Integer({ minimum: 100, maximum: 10_000 });
const Confidence = Type.Number({ minimum: 0, maximum: 1 });

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
          keywords: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { minItems: 1, maxItems: MAX_KEYWORDS }),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: MAX_RULES, description: 'The first rule with a keyword in the text gives the value' },
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
      Type.String({
        maxLength: MAX_FIELD_CHARS,
        description: 'Where no language is found with the confidence asked for',
      }),
    ),
  },
  { additionalProperties: false, description: 'The language of the message, as ISO 639-1' },
);

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
    synonyms: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: MAX_SYNONYMS })),
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
    choices: Type.Optional(Type.Array(Choice, { minItems: 1, maxItems: MAX_CHOICES })),
    pattern: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_ANSWER_PATTERN_CHARS,
        description: 'RE2 that a free answer must match',
      }),
    ),
    test: Type.Optional(Condition('answer (the text), besides what conditions of steps may name')),
    retryText: Type.Optional(MessageText),
    maxQuestions: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_QUESTIONS,
        default: DEFAULT_MAX_QUESTIONS,
        description: 'How often it is asked at most',
      }),
    ),
    timeoutSeconds: Type.Integer({
      minimum: 5,
      maximum: MAX_ANSWER_SECONDS,
      description: 'For an answer, anew for each question',
    }),
    settleSeconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_SETTLE_SECONDS,
        default: DEFAULT_SETTLE_SECONDS,
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
      maxLength: MAX_ADDRESS_CHARS,
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
    retries: Type.Optional(Type.Integer({ minimum: 0, maximum: 5, default: DEFAULT_RETRIES })),
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
      { minItems: 2, maxItems: MAX_LABELS },
    ),
    instructions: Type.Optional(Type.String({ maxLength: 2000, description: 'For the model; no templates' })),
    minConfidence: Type.Optional(Confidence),
    otherwise: Type.String({
      minLength: 1,
      maxLength: 100,
      description: 'The value where the model cannot tell, or cannot be reached',
    }),
    timeoutMs: TimeoutMs,
    maxTokens: Type.Optional(Type.Integer({ minimum: 16, maximum: 1000, default: DEFAULT_MAX_TOKENS })),
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

export type EnrichmentStep = Static<typeof EnrichmentStep>;
export type SetStep = Static<typeof SetStep>;
export type KeywordsStep = Static<typeof KeywordsStep>;
export type LanguageStep = Static<typeof LanguageStep>;
export type ContactStep = Static<typeof ContactStep>;
export type AskStep = Static<typeof AskStep>;
export type HttpStep = Static<typeof HttpStep>;
export type ClassifyStep = Static<typeof ClassifyStep>;
/** One that asks another system. */
export type NetworkStep = HttpStep | ClassifyStep;

export function isNetworkStep(step: EnrichmentStep): step is NetworkStep {
  return step.kind === 'http' || step.kind === 'classify';
}
