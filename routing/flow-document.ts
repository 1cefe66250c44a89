import { Type, type Static } from 'typebox';
import { Settings } from 'typebox/system';
import { Errors } from 'typebox/value';
import { compileConditionCached } from './condition.ts';
import { foldText } from './enrichment.ts';
import { escapePointer, FLOW_PATTERNS, flowFaultsOf, teamFaults, type FlowFault } from './flow-faults.ts';
import { createRequirementsCheck, type KnownNames } from './flow-requirement-faults.ts';
import { requirementMembers } from './flow-requirements.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';

const Name = Type.String({ minLength: 1, maxLength: 100, pattern: FLOW_PATTERNS.notBlank });
const FieldName = Type.String({ pattern: FLOW_PATTERNS.fieldName });
const FieldValueSchema = Type.Union([Type.String({ maxLength: 1000 }), Type.Number(), Type.Boolean()]);
const ConditionSource = Type.String({
  minLength: 1,
  maxLength: 2048,
  description: 'CEL over conversation, contact, channel, message and fields',
});
const Priority = Type.Integer({ minimum: 0, maximum: 100, description: 'Higher is served first' });
const TeamId = Type.String({ pattern: FLOW_PATTERNS.id });

export const SetStep = Type.Object(
  { kind: Type.Literal('set'), field: FieldName, value: FieldValueSchema },
  { additionalProperties: false },
);

export const KeywordsStep = Type.Object(
  {
    kind: Type.Literal('keywords'),
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

export const HttpStep = Type.Object(
  {
    kind: Type.Literal('http'),
    url: Type.String({ maxLength: 2048, pattern: FLOW_PATTERNS.url }),
    timeoutMs: Type.Integer({ minimum: 100, maximum: 10_000 }),
    fields: Type.Record(FieldName, Type.String({ maxLength: 500, pattern: FLOW_PATTERNS.jsonPointer }), {
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 50,
      description: 'Field name to JSON pointer into the response',
    }),
  },
  { additionalProperties: false },
);

export const EnrichmentStep = Type.Union([SetStep, KeywordsStep, HttpStep]);

const Trigger = Type.Object(
  { on: Type.Literal('conversation.opened'), condition: ConditionSource },
  { additionalProperties: false },
);

const Branch = Type.Object(
  { name: Name, when: ConditionSource, teamId: TeamId, priority: Priority, ...requirementMembers },
  { additionalProperties: false },
);

const MAX_BRANCHES = 50;

const Routing = Type.Object(
  {
    branches: Type.Array(Branch, {
      maxItems: MAX_BRANCHES,
      description: 'The first branch whose condition is true decides',
    }),
    otherwise: Type.Object(
      { teamId: TeamId, priority: Priority, ...requirementMembers },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
);

const MAX_STEPS = 20;

/** What a flow does, apart from its name and description: when it runs, what it finds out, and where the conversation goes. */
export const FlowDocument = Type.Object(
  { trigger: Trigger, enrichment: Type.Array(EnrichmentStep, { maxItems: MAX_STEPS }), routing: Routing },
  { additionalProperties: false },
);

export type FlowDocument = Static<typeof FlowDocument>;
export type EnrichmentStep = Static<typeof EnrichmentStep>;
export type SetStep = Static<typeof SetStep>;
export type KeywordsStep = Static<typeof KeywordsStep>;
export type HttpStep = Static<typeof HttpStep>;

export const DEFAULT_TRIGGER: FlowDocument['trigger'] = {
  on: 'conversation.opened',
  condition: "conversation.source == 'contact'",
};

export type FlowValidation =
  { readonly ok: true; readonly flow: FlowDocument } | { readonly ok: false; readonly faults: readonly FlowFault[] };

export type { FlowFault };

/**
 * Checks a document that somebody wrote and finds every fault at once: shape and limits, conditions, teams, names, requirements. A trigger or
 * enrichment left out gets its default, which the returned flow contains.
 */
export function validateFlow(document: unknown, known: KnownNames): FlowValidation {
  const complete = withDefaults(document);
  const faults = [...shapeFaults(withoutTails(complete, 0)), ...contentFaults(complete, known)];
  if (faults.length > 0) return { ok: false, faults: faults.slice(0, MAX_FAULTS) };
  return { ok: true, flow: complete as FlowDocument };
}

/** Whether enriching calls other systems, which needs a regular activity with time limits and retries. */
export function stepsLeaveTheHouse(flow: FlowDocument): boolean {
  return flow.enrichment.some((step) => step.kind === 'http');
}

const MAX_FAULTS = 1000;
/** How deep the objects and lists of a valid document lie. */
const MAX_DEPTH = 7;

function withDefaults(document: unknown): unknown {
  if (!isObject(document)) return document;
  const { trigger = {}, enrichment = [], ...rest } = document;
  return { trigger: isObject(trigger) ? { ...DEFAULT_TRIGGER, ...trigger } : trigger, enrichment, ...rest };
}

/**
 * No list of a flow may have more than 50 entries. One that has is refused for that, and those that come after are not looked at: their faults
 * would take the place of others.
 */
function withoutTails(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return value;
  if (Array.isArray(value)) return value.slice(0, 51).map((item) => withoutTails(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutTails(member, depth + 1)]));
}

/** The steps are checked by the schema of their kind: a union would report what each of its other members misses. */
const Frame = Type.Object(
  { trigger: Trigger, enrichment: Type.Array(Type.Unknown(), { maxItems: MAX_STEPS }), routing: Routing },
  { additionalProperties: false },
);

const STEP_SCHEMAS = { set: SetStep, keywords: KeywordsStep, http: HttpStep };

function shapeFaults(document: unknown): FlowFault[] {
  return withAllErrors(() => {
    const faults = flowFaultsOf(Errors(Frame, document), '');
    for (const [path, step] of itemsAt(document, '/enrichment', MAX_STEPS)) {
      const kind = isObject(step) ? step['kind'] : undefined;
      if (typeof kind === 'string' && Object.hasOwn(STEP_SCHEMAS, kind)) {
        faults.push(...flowFaultsOf(Errors(STEP_SCHEMAS[kind as keyof typeof STEP_SCHEMAS], step), path));
      } else {
        faults.push({
          path: `${path}/kind`,
          message: 'is no known kind of step',
          mend: `Give one of ${Object.keys(STEP_SCHEMAS).join(', ')}.`,
        });
      }
    }
    return faults;
  });
}

/** TypeBox stops at eight errors unless told otherwise, by a setting of the whole process. */
function withAllErrors<Result>(collect: () => Result): Result {
  const { maxErrors } = Settings.Get();
  Settings.Set({ maxErrors: MAX_FAULTS });
  try {
    return collect();
  } finally {
    Settings.Set({ maxErrors });
  }
}

/** What a schema cannot tell. Values of the wrong shape are passed over: their fault is known. */
function contentFaults(document: unknown, known: KnownNames): FlowFault[] {
  const checkRequirements = createRequirementsCheck(known);
  return [
    ...conditionFaults('/trigger/condition', valueAt(document, '/trigger/condition')),
    ...itemsAt(document, '/enrichment', MAX_STEPS).flatMap(([path, step]) => emptyKeywordFaults(path, step)),
    ...branchFaults(document, known.teamIds),
    ...teamFaults('/routing/otherwise/teamId', valueAt(document, '/routing/otherwise/teamId'), known.teamIds),
    ...itemsAt(document, '/routing/branches', MAX_BRANCHES).flatMap(([path, branch]) =>
      checkRequirements(path, branch),
    ),
    ...checkRequirements('/routing/otherwise', valueAt(document, '/routing/otherwise')),
    ...unstorableTextFaults('', document, 0),
  ];
}

function branchFaults(document: unknown, teamIds: ReadonlySet<string>): FlowFault[] {
  const firstWithName = new Map<string, string>();
  return itemsAt(document, '/routing/branches', MAX_BRANCHES).flatMap(([path, branch]) => {
    const faults = [
      ...conditionFaults(`${path}/when`, valueAt(branch, '/when')),
      ...teamFaults(`${path}/teamId`, valueAt(branch, '/teamId'), teamIds),
    ];
    const name = valueAt(branch, '/name');
    if (typeof name !== 'string') return faults;
    const folded = name.trim().toLowerCase();
    const first = firstWithName.get(folded);
    if (first === undefined) firstWithName.set(folded, path);
    else {
      const message = 'is also the name of the branch at';
      faults.push({ path: `${path}/name`, message, at: first, mend: 'Give every branch a name of its own.' });
    }
    return faults;
  });
}

function conditionFaults(path: string, source: unknown): FlowFault[] {
  if (typeof source !== 'string' || source === '' || source.length > 2048) return [];
  const result = compileConditionCached(source);
  if (result.ok) return [];
  return result.faults.map(({ message, position }) => ({
    path,
    message: position === undefined ? message : `${message} (at character ${position + 1})`,
    mend: "Correct the expression; an example is fields.purpose == 'billing'.",
  }));
}

function emptyKeywordFaults(path: string, step: unknown): FlowFault[] {
  return itemsAt(step, '/rules', 50).flatMap(([rulePath, rule]) =>
    itemsAt(rule, '/keywords', 50)
      .filter(([, keyword]) => typeof keyword === 'string' && keyword !== '' && foldText(keyword) === '')
      .map(([keywordPath]) => ({
        path: `${path}${rulePath}${keywordPath}`,
        message: 'has nothing to look for',
        mend: 'Give a keyword with letters, digits or signs.',
      })),
  );
}

/** PostgreSQL stores neither U+0000 nor half a surrogate pair. */
function unstorableTextFaults(path: string, value: unknown, depth: number): FlowFault[] {
  if (typeof value === 'string') {
    if (!value.includes('\0') && !/\p{Surrogate}/u.test(value)) return [];
    return [{ path, message: 'has a character that cannot be stored', mend: 'Remove U+0000 and unpaired surrogates.' }];
  }
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return [];
  return Object.entries(value)
    .slice(0, MAX_FAULTS)
    .flatMap(([key, member]) => unstorableTextFaults(`${path}/${escapePointer(key)}`, member, depth + 1));
}
