/** What may happen to a team's work in a day, as data that fast-check draws and shrinks. Names are numbers: of contacts, agents, teams, channels. */
import fc from 'fast-check';
import type { Presence } from '../../routing/conversation.ts';
import { strategies, type Strategy, type TeamSettings } from '../../routing/team-rules.ts';

export type Command =
  | ({ readonly kind: 'write' } & Writing)
  /** Several at once, whose conversations are assigned as a set. */
  | { readonly kind: 'writes'; readonly writings: readonly Writing[] }
  /** Several closed as a set. */
  | { readonly kind: 'closes'; readonly contacts: readonly number[] }
  | { readonly kind: 'open'; readonly contact: number; readonly to: Target }
  | { readonly kind: 'close' | 'request close' | 'reply'; readonly contact: number }
  | { readonly kind: 'answer'; readonly contact: number; readonly accepts: boolean }
  | { readonly kind: 'assign'; readonly contact: number; readonly to: Target }
  | { readonly kind: 'presence'; readonly agent: number; readonly status: Presence }
  | { readonly kind: 'silence'; readonly agent: number }
  | { readonly kind: 'agent'; readonly agent: number; readonly change: AgentChange }
  | {
      readonly kind: 'team';
      readonly team: number;
      readonly strategy: Strategy;
      readonly settings: Partial<TeamSettings>;
    }
  /** So much later for one conversation; then all clocks that are due run. */
  | { readonly kind: 'later'; readonly contact: number; readonly seconds: number }
  /** It has waited for so much longer than it seems. */
  | { readonly kind: 'aged'; readonly contact: number; readonly minutes: number }
  /** What the outbox asks of actors and of whoever wakes is done. */
  | { readonly kind: 'relay' };

export interface Writing {
  readonly contact: number;
  readonly channel: number;
  readonly routed: RoutedTo;
}

/** What a flow would have decided. */
export interface RoutedTo {
  readonly team: number;
  readonly priority: number;
  readonly slaSeconds: number | null;
  readonly skills: readonly { readonly skill: string; readonly level: number; readonly preferred: boolean }[];
  readonly rings: readonly RingKind[];
}

/** One each 30 s; the world knows the teams. */
export type RingKind = 'relax' | 'drop' | 'overflow' | 'wait' | 'close';

export type Target =
  | { readonly kind: 'agent'; readonly agent: number; readonly force: boolean }
  | { readonly kind: 'team'; readonly team: number }
  | { readonly kind: 'queue' };

export interface AgentChange {
  readonly capacity?: number;
  readonly skills?: Readonly<Record<string, number>>;
  readonly teams?: readonly number[];
  /** Of the channels. */
  readonly limits?: readonly (number | null)[];
}

/** Many more contacts than fit, so that queues form. */
export const counts = { contacts: 16, agents: 4, teams: 3, channels: 3 } as const;

const indexes = {
  contact: fc.nat(counts.contacts - 1),
  agent: fc.nat(counts.agents - 1),
  team: fc.nat(counts.teams - 1),
  // Mostly the same, so that many wait for the same agents.
  channel: fc.constantFrom(0, 0, 0, 0, 1, 2),
};

const skillNames = ['german', 'spanish'];
const level = fc.integer({ min: 1, max: 5 });

const rings = fc.constantFrom<readonly RingKind[]>(
  [],
  [],
  ['relax', 'wait'],
  ['relax', 'drop', 'overflow', 'wait'],
  ['overflow', 'relax', 'close'],
  ['close'],
);

const routed: fc.Arbitrary<RoutedTo> = record({
  team: fc.constantFrom(0, 0, 0, 1, 1, 2),
  priority: fc.constantFrom(0, 0, 0, 50, 100),
  slaSeconds: fc.constantFrom(null, null, null, 30, 300),
  skills: fc.oneof(
    { weight: 2, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.uniqueArray(record({ skill: fc.constantFrom(...skillNames), level, preferred: fc.boolean() }), {
        minLength: 1,
        maxLength: 2,
        selector: ({ skill }) => skill,
      }),
    },
  ),
  rings,
});

const target: fc.Arbitrary<Target> = fc.oneof(
  { weight: 3, arbitrary: record({ kind: fc.constant('agent'), agent: indexes.agent, force: fc.boolean() }) },
  { weight: 2, arbitrary: record({ kind: fc.constant('team'), team: indexes.team }) },
  { weight: 1, arbitrary: record({ kind: fc.constant('queue') }) },
);

const skillsOfAgent = fc.dictionary(fc.constantFrom(...skillNames), level, { noNullPrototype: true });

const agentChange: fc.Arbitrary<AgentChange> = fc.oneof(
  record({ capacity: fc.integer({ min: 0, max: 7 }) }),
  record({ skills: skillsOfAgent }),
  record({ teams: fc.subarray([0, 1, 2]) }),
  record({
    limits: fc.array(fc.option(fc.integer({ min: 0, max: 2 })), {
      minLength: counts.channels,
      maxLength: counts.channels,
    }),
  }),
);

const values: { readonly [K in keyof TeamSettings]?: fc.Arbitrary<TeamSettings[K]> } = {
  agingPointsPerMinute: fc.constantFrom(0, 1, 30),
  slaSeconds: fc.constantFrom(null, 20, 600),
  affinity: fc.constantFrom(null, { withinHours: 1, waitSeconds: 0 }, { withinHours: 1, waitSeconds: 40 }),
  offer: fc.constantFrom(null, { acceptSeconds: 30, maxMissed: 1 }, { acceptSeconds: 30, maxMissed: 2 }),
  offline: fc.constantFrom<TeamSettings['offline']>(
    { then: 'keep' },
    { then: 'return', graceSeconds: 0 },
    { then: 'return', graceSeconds: 60 },
  ),
  silenceMinutes: fc.constantFrom(null, 1),
  quietMinutes: fc.constantFrom(null, 1),
};
const settings: fc.Arbitrary<Partial<TeamSettings>> = record(values);
const oneSetting: fc.Arbitrary<Partial<TeamSettings>> = fc.oneof(
  ...Object.entries(values).map(([name, value]) => value.map((drawn: unknown) => ({ [name]: drawn }))),
);

export interface TeamRulesDrawn {
  readonly strategy: Strategy;
  readonly settings: Partial<TeamSettings>;
}

/** How each team is set when the day begins. */
export const rulesOfTeams: fc.Arbitrary<TeamRulesDrawn[]> = fc.array(
  record({ strategy: fc.constantFrom(...strategies), settings }),
  { minLength: counts.teams, maxLength: counts.teams },
);

const presence = fc.constantFrom<Presence>('online', 'online', 'away', 'offline');

const changedTeam = record({
  kind: fc.constant('team' as const),
  team: indexes.team,
  strategy: fc.constantFrom(...strategies),
  settings: oneSetting,
});

const writing = record<Writing>({ contact: indexes.contact, channel: indexes.channel, routed });
const manyAtOnce = { minLength: 2, maxLength: 8, size: 'max' } as const;
const writings = fc.uniqueArray(writing, { ...manyAtOnce, selector: ({ contact }) => contact });

const weighted: readonly (readonly [number, fc.Arbitrary<Command>])[] = [
  [10, record({ kind: fc.constant('write'), contact: indexes.contact, channel: indexes.channel, routed })],
  [3, record({ kind: fc.constant('writes'), writings })],
  [3, record({ kind: fc.constant('closes'), contacts: fc.uniqueArray(indexes.contact, manyAtOnce) })],
  [2, record({ kind: fc.constant('open'), contact: indexes.contact, to: target })],
  [4, record({ kind: fc.constant('close'), contact: indexes.contact })],
  [1, record({ kind: fc.constantFrom('request close', 'reply'), contact: indexes.contact })],
  [4, record({ kind: fc.constant('answer'), contact: indexes.contact, accepts: fc.boolean() })],
  [3, record({ kind: fc.constant('assign'), contact: indexes.contact, to: target })],
  [4, record({ kind: fc.constant('presence'), agent: indexes.agent, status: presence })],
  [1, record({ kind: fc.constant('silence'), agent: indexes.agent })],
  [3, record({ kind: fc.constant('agent'), agent: indexes.agent, change: agentChange })],
  [1, changedTeam],
  [5, record({ kind: fc.constant('later'), contact: indexes.contact, seconds: fc.constantFrom(31, 61, 130) })],
  [1, record({ kind: fc.constant('aged'), contact: indexes.contact, minutes: fc.constantFrom(1, 10) })],
  [2, fc.constant<Command>({ kind: 'relay' })],
];

export const command: fc.Arbitrary<Command> = fc.oneof(
  ...weighted.map(([weight, arbitrary]) => ({ weight, arbitrary })),
);

/** Counterexamples print as plain objects. */
function record<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}
