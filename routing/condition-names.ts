import { isOpen } from './business-hours.ts';
import type { Bindings } from './condition-functions.ts';
import { KIND, kindsOfField, type FieldType, type Kinds } from './condition-kinds.ts';
import { cutText, MAX_MESSAGE_TEXT_CHARS, type RoutingFacts, type TeamLoad } from './facts.ts';
import { JsonMembers } from './condition-values.ts';
import type { BusinessHours } from './hours-schema.ts';

/** The names that conditions know: what is known of them when a condition is compiled, and what they stand for when it is evaluated. */
export interface ConditionScope {
  readonly for: 'trigger' | 'step' | 'branch' | 'answer';
  /**
   * The fields that steps before may have set, and the business hours of the flow. Where one of the two is given, types are checked as well, as when
   * a flow is published; where neither is, everything passes that could be evaluated, so that what was published once goes on running.
   * All conditions of a document are given the same set of hours, by which the work on its patterns is summed up.
   */
  readonly fields?: ReadonlyMap<string, FieldType> | undefined;
  readonly hours?: ReadonlySet<string> | undefined;
  /** Whether the branch has a team of its own, whose load `team` is. */
  readonly team?: boolean | undefined;
}

/** What is known of a value: of what kind it may be, and its members where these are listed. */
export interface Shape {
  readonly kinds: Kinds;
  readonly members?: Members;
  /** Kinds of the items of a list. */
  readonly items?: Kinds;
  /** Where it stands in the facts: `['fields', 'purpose']`. */
  readonly path?: readonly string[];
}

interface Members {
  readonly name: string;
  readonly shapes: ReadonlyMap<string, Shape>;
  /** What to do about a name that is none of them. */
  readonly mend: string;
  /** Whether `[ ]` takes an expression too. */
  readonly takesAnyIndex?: boolean;
}

export const isStrict = (scope: ConditionScope | undefined): boolean =>
  scope?.fields !== undefined || scope?.hours !== undefined;

/** The names at the top, by where the condition stands. */
export function namesIn(scope: ConditionScope | undefined): ReadonlyMap<string, Shape> {
  const names = new Map<string, Shape>(ALWAYS_KNOWN);
  const absent = isStrict(scope) ? absentIn(scope) : [];
  if (!absent.includes('fields')) names.set('fields', shapeOfFields(scope?.fields));
  names.set('hours', shapeOfHours(scope?.hours));
  if (!absent.includes('team')) names.set('team', TEAM);
  if (!absent.includes('answer')) names.set('answer', TEXT);
  return names;
}

/** Why a name that is known elsewhere is not known here. */
export function reasonOfAbsence(name: string, scope: ConditionScope | undefined): string | null {
  if (!isStrict(scope) || !absentIn(scope).includes(name)) return null;
  switch (name) {
    case 'fields':
      return 'a trigger cannot name fields: it is decided before any step';
    case 'team':
      return scope?.for === 'branch'
        ? 'team is the load of the branch’s own teamId, which this branch does not have'
        : 'team can be named only in the conditions of branches';
    default:
      return 'answer can be named only in the test of an ask step';
  }
}

function absentIn(scope: ConditionScope | undefined): string[] {
  return [
    ...(scope?.for === 'trigger' ? ['fields'] : []),
    ...(scope?.for === 'branch' && scope.team === true ? [] : ['team']),
    ...(scope?.for === 'answer' ? [] : ['answer']),
  ];
}

const TEXT: Shape = { kinds: KIND.text };
const WHOLE: Shape = { kinds: KIND.whole };

const object = (name: string, shapes: Readonly<Record<string, Shape>>, mend = 'Name one of these.'): Shape => ({
  kinds: KIND.object,
  members: { name, shapes: new Map(Object.entries(shapes)), mend },
});

const ALWAYS_KNOWN: readonly [string, Shape][] = [
  ['conversation', object('conversation', { source: TEXT, priority: WHOLE })],
  [
    'contact',
    object(
      'contact',
      { id: TEXT, name: { kinds: KIND.text | KIND.nothing }, attributes: { kinds: KIND.object } },
      'Name one of these; what your system sends about a contact is in contact.attributes.',
    ),
  ],
  ['channel', object('channel', { key: TEXT, name: TEXT })],
  ['message', object('message', { text: TEXT })],
];

const TEAM = object('team', { waiting: WHOLE, onlineAgents: WHOLE, longestWaitSeconds: WHOLE });

function shapeOfFields(fields: ReadonlyMap<string, FieldType> | undefined): Shape {
  if (fields === undefined) return { kinds: KIND.object };
  const shapes = new Map([...fields].map(([name, type]) => [name, { kinds: kindsOfField(type) }]));
  const mend = 'Name one of these, or set it by a step before this.';
  return { kinds: KIND.object, members: { name: 'fields', shapes, mend, takesAnyIndex: true } };
}

function shapeOfHours(hours: ReadonlySet<string> | undefined): Shape {
  const one = (name: string) => object(`hours.${name}`, { open: { kinds: KIND.boolean } });
  if (hours === undefined) return { kinds: KIND.object };
  const shapes = new Map([...hours].map((name) => [name, one(name)]));
  return { kinds: KIND.object, members: { name: 'hours', shapes, mend: 'Name one of these, or add it to hours.' } };
}

export type BoundFacts = Bindings;

export interface MoreFacts {
  /** The flow's. */
  readonly hours?: Readonly<Record<string, BusinessHours>> | undefined;
  /** What the contact answered to the question. */
  readonly answer?: string | undefined;
  readonly team?: TeamLoad | undefined;
}

/**
 * The facts in the form that CEL reads; worth keeping while several conditions are evaluated over the same facts. What is not known, such as a
 * load, is an object without members: naming one is an error of the evaluation.
 */
export function bindFacts(facts: RoutingFacts, { hours, answer, team }: MoreFacts = {}): BoundFacts {
  const { conversation, contact, channel, message, fields, nowMs } = facts;
  let opening: Bindings[string] | undefined;
  return {
    conversation: new Map<string, Bindings[string]>([
      ['source', conversation.source],
      ['priority', wholeNumber(conversation.priority)],
    ]),
    contact: new Map<string, Bindings[string]>([
      ['id', contact.id],
      ['name', contact.name],
      ['attributes', new JsonMembers(contact.attributes)],
    ]),
    channel: new Map([
      ['key', channel.key],
      ['name', channel.name],
    ]),
    message: new Map([['text', cutText(message.text, MAX_MESSAGE_TEXT_CHARS)]]),
    fields: new JsonMembers(fields),
    // Computed when a condition names it, and once.
    get hours() {
      return (opening ??= openingOf(hours, nowMs));
    },
    team: loadOf(team),
    ...(answer === undefined ? {} : { answer: cutText(answer, MAX_MESSAGE_TEXT_CHARS) }),
  };
}

/** The same facts for the branch of another team. */
export function withTeam(bound: BoundFacts, load: TeamLoad | undefined): BoundFacts {
  // What is bound is inherited and not copied, so that the business hours stay uncomputed.
  return Object.create(bound, { team: { value: loadOf(load), enumerable: true } }) as BoundFacts;
}

const loadOf = (load: TeamLoad | undefined): ReadonlyMap<string, bigint> & Bindings[string] =>
  load === undefined
    ? NO_LOAD
    : new Map([
        ['waiting', wholeNumber(load.waiting)],
        ['onlineAgents', wholeNumber(load.onlineAgents)],
        ['longestWaitSeconds', wholeNumber(load.longestWaitSeconds)],
      ]);

const NO_LOAD = new Map<string, bigint>();

function openingOf(hours: MoreFacts['hours'], nowMs: number): Bindings[string] {
  return new Map(
    Object.entries(hours ?? {}).map(([name, one]): [string, Bindings[string]] => [
      name,
      new Map([['open', isOpen(one, nowMs)]]),
    ]),
  );
}

const wholeNumber = (value: number): bigint => BigInt(Number.isFinite(value) ? Math.trunc(value) : 0);
