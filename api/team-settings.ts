/** The rules that a team may set, as the API takes and shows them: a schema for each member of `TeamSettings`, side by side with its bounds. */
import { Type, type Static, type TObject, type TProperties } from '@fastify/type-provider-typebox';
import { strategies, type TeamSettings } from '../routing/team-rules.ts';
import { Body, Id, Nullable, OneOf } from './schemas.ts';

export const Strategy = OneOf(strategies, {
  description:
    'Who gets a conversation, among the agents who may take it and have room. round_robin: the next one after the last, in the ' +
    'order of ids; least_loaded: whose load is the smallest part of the capacity; longest_idle: who has gone without a new ' +
    'conversation for longest; most_skilled: whose levels in the skills asked for sum up highest; priority_list: who stands first ' +
    'in priorityList. Equals are told apart by the longer idle time, then by the smaller id',
});

/** Null switches a rule off. */
export const teamSettingsSchemas = {
  priorityList: Type.Array(Id, {
    maxItems: 1000,
    uniqueItems: true,
    description:
      'For strategy priority_list: ids of agents of the workspace, first choice first. Agents who are not in the team are passed over; ' +
      'those of the team who are not named come after them, so with an empty list all are equals',
  }),
  agingPointsPerMinute: Type.Number({
    minimum: 0,
    maximum: 100,
    description:
      'Points that the priority of a waiting conversation grows by in each minute, up to 100; 0: it does not grow',
    examples: [0.5],
  }),
  slaSeconds: Nullable(
    Type.Integer({
      minimum: 1,
      maximum: 604_800,
      description:
        'Seconds within which a conversation is to be assigned: of two with the same priority, the one that comes closer to this ' +
        'is served first. null: no target; in the order it then counts as if it were one day',
      examples: [120],
    }),
  ),
  affinity: NullableBody(
    {
      withinHours: Type.Integer({
        minimum: 1,
        maximum: 8760,
        description: "Hours since the close of the contact's last conversation within which its agent is preferred",
      }),
      waitSeconds: Type.Integer({
        minimum: 0,
        maximum: 3600,
        description: 'Seconds that the conversation waits for this agent alone; 0: not at all',
      }),
    },
    "Prefer the agent of the contact's last conversation. null: do not",
  ),
  offer: NullableBody(
    {
      acceptSeconds: Type.Integer({
        minimum: 5,
        maximum: 3600,
        description: 'Seconds that an agent has to accept before the offer goes to the next one',
      }),
      maxMissed: Type.Integer({
        minimum: 1,
        maximum: 100,
        description: 'Offers in a row that an agent may leave unanswered before being set away',
      }),
    },
    'Offer conversations to agents, who accept or reject them. null: assign them at once',
  ),
  offline: offlineSchema(),
  silenceMinutes: Nullable(
    Type.Integer({
      minimum: 1,
      maximum: 10_080,
      description:
        'Minutes without a reply of the agent to the contact after which a conversation goes back to the queue, with the time it ' +
        'has waited kept. null: never',
    }),
  ),
  quietMinutes: Nullable(
    Type.Integer({
      minimum: 1,
      maximum: 10_080,
      description:
        "Minutes without any message after which a conversation takes nothing of its agent's capacity until the contact writes " +
        'again. null: it always counts',
    }),
  ),
} satisfies Record<keyof TeamSettings, unknown>;

/** The rules among the members of a body; what a nested rule may leave out is filled in. */
export function toTeamSettings({ offline, ...settings }: SettingsInput): Partial<TeamSettings> {
  if (offline === undefined) return settings;
  const { then, graceSeconds = 0 } = offline;
  return { ...settings, offline: then === 'keep' ? { then } : { then, graceSeconds } };
}

type SettingsInput = { [K in keyof typeof teamSettingsSchemas]?: Static<(typeof teamSettingsSchemas)[K]> };

function offlineSchema() {
  const graceSeconds = Type.Integer({
    minimum: 0,
    maximum: 86_400,
    description: 'With return only: seconds that the agent has to come back. 0 or left out: at once',
  });
  const then = OneOf(['keep', 'return'], {
    description:
      'keep: they stay with the agent; return: they go back to the queue, with the time they have waited kept',
  });
  return Type.Object(
    { then, graceSeconds: Type.Optional(graceSeconds) },
    {
      additionalProperties: false,
      description: "What becomes of an agent's conversations when the agent goes offline",
      // A grace time says that something returns.
      dependencies: {
        graceSeconds: {
          if: { required: ['then'], properties: { then: { const: 'keep' } } },
          then: {
            properties: { graceSeconds: { not: {}, fault: 'goes only with then: return', mend: 'Leave it out.' } },
          },
        },
      },
    },
  );
}

/** One type for both, not an alternative of two schemas: a fault within is then told without "must be null" beside it. */
function NullableBody<P extends TProperties>(properties: P, description: string) {
  return Type.Unsafe<Static<TObject<P>> | null>({ ...Body(properties, { description }), type: ['object', 'null'] });
}
