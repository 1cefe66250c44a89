/** What the API shows of each row: the schema of the answer and the function that makes it, side by side. */
import { Type, type Static } from '@fastify/type-provider-typebox';
import type { ContactRow } from '../store/contacts.ts';
import type { ConversationRow, DecisionRow } from '../store/conversations.ts';
import { eventTypes, type EventRow } from '../store/events.ts';
import type { MessageRow } from '../store/messages.ts';
import { skillsAfter } from '../routing/requirements.ts';
import { summarizeDecision } from './decision-summary.ts';
import { Id, Nullable, NullableId, OneOf, Timestamp } from './schemas.ts';

const NullableText = Nullable(Type.String());
export const NullableTimestamp = Nullable(Timestamp);

/** JSON as it was given, or as a version of this code wrote it. */
const JsonObject = Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true });

export const conversationStates = ['enriching', 'routing', 'waiting', 'assigned', 'closed'] as const;
const conversationSources = ['contact', 'user', 'api'] as const;

export const MessageView = Type.Object({
  id: Id,
  contactId: Id,
  conversationId: Nullable(Type.String({ description: 'null while the message waits for a conversation' })),
  direction: OneOf(['inbound', 'outbound'], { description: 'inbound: from the contact; outbound: to the contact' }),
  author: OneOf(['contact', 'agent', 'flow'], { description: 'Who wrote it' }),
  sequence: Type.Integer({ description: 'Place among all messages of the contact, without gaps' }),
  channel: Nullable(Type.String({ description: 'Key of the channel; null where a reply goes to none' })),
  externalId: NullableText,
  agentId: Nullable(Type.String({ description: 'Who replied; null where the contact or a flow wrote' })),
  text: NullableText,
  attachments: Type.Array(Type.Unknown()),
  sentAt: Nullable(Type.String({ format: 'date-time', description: 'When the contact sent it, as the channel says' })),
  receivedAt: Timestamp,
  delivery: Nullable(
    Type.Object(
      {
        state: OneOf(['pending', 'delivered', 'failed'], {
          description: 'pending: it is sent, again if need be; failed: it is not sent any more, unless it is retried',
        }),
        attempts: Nullable(Type.Integer({ description: 'Those that failed; null once it is delivered' })),
        lastError: NullableText,
        deliveredAt: NullableTimestamp,
      },
      { description: 'Of a message to the contact, where its channel had an `outboundUrl`; else null' },
    ),
  ),
});

export function viewMessage(row: MessageRow): Static<typeof MessageView> {
  const { id, contactId, conversationId, direction, sequence, channel, externalId, agentId, text } = row;
  return {
    id,
    contactId,
    conversationId,
    direction,
    author: direction === 'inbound' ? 'contact' : agentId === null ? 'flow' : 'agent',
    sequence,
    channel,
    externalId,
    agentId,
    text,
    attachments: [...(row.attachments ?? [])],
    sentAt: isoOrNull(row.sentAt),
    receivedAt: row.receivedAt.toISOString(),
    delivery: viewDelivery(row),
  };
}

function viewDelivery(row: MessageRow): Static<typeof MessageView>['delivery'] {
  if (row.delivery === null) return null;
  return {
    state: row.delivery,
    attempts: row.deliveryAttempts,
    lastError: row.deliveryError,
    deliveredAt: isoOrNull(row.deliveredAt),
  };
}

/** A skill that is asked of an agent. */
export const SkillView = Type.Object({
  skill: Type.String(),
  level: Type.Integer({ description: 'The least level, 1 to 5' }),
  preferred: Type.Boolean({ description: 'Agents who meet it come first, but others may take the conversation' }),
});

export const ConversationView = Type.Object({
  id: Id,
  contactId: Id,
  state: OneOf(conversationStates),
  source: OneOf(conversationSources, { description: 'Who opened it' }),
  channel: Nullable(
    Type.String({
      description: 'Key of the channel it began on; null where a person opened it and nothing was written',
    }),
  ),
  units: Type.Integer({ description: "What it takes of an agent's capacity, fixed when it began" }),
  priority: Type.Integer({ description: '0 to 100, higher is served first' }),
  slaSeconds: Nullable(
    Type.Integer({
      description:
        "The wait that its flow's branch aims at, which it keeps in other teams; null: the target of its team counts, where there is one",
    }),
  ),
  effectivePriority: Nullable(
    Type.Integer({ description: 'The priority grown by the time it has waited until now; null unless it waits' }),
  ),
  skills: Type.Array(SkillView, {
    description:
      'What is asked of an agent now: `requirements.skills` with what the rings passed so far have lowered or dropped',
  }),
  requirements: Type.Unsafe<object>({
    ...JsonObject,
    description:
      'What its flow asked when it decided, and as it stays: `skills`, asked of an agent at first, and `rings`, what changes after so ' +
      'many seconds in the queue. `{}` or empty lists: nothing was asked. What is asked by now is `skills` beside this',
  }),
  ring: Type.Integer({
    description:
      'How many of `requirements.rings` it has passed since it came into the queue, from 0; a return to the queue begins at 0 again',
  }),
  teamId: NullableId,
  agentId: NullableId,
  flowVersionId: NullableId,
  openedAt: Timestamp,
  routedAt: NullableTimestamp,
  assignedAt: NullableTimestamp,
  closedAt: NullableTimestamp,
  closeRequestedAt: NullableTimestamp,
  closing: Nullable(
    Type.Object({
      category: NullableText,
      summary: NullableText,
      reason: Nullable(
        Type.String({
          description:
            'agent: somebody asked for it; flow: a branch or a step of its flow closed it; inactivity or nobody_available: a rule did; ' +
            'null: closed before this was recorded',
        }),
      ),
    }),
  ),
  fields: JsonObject,
  fieldSources: Type.Unsafe<ConversationRow['fieldSources']>({
    ...JsonObject,
    description:
      'Where each of `fields` comes from, by its name: `type` (string, number or boolean), `step` (its position in the flow, from 0), ' +
      '`kind` of that step, and `confidence` from 0 to 1 where the step tells',
  }),
  asking: Nullable(
    Type.Object(
      {
        step: Type.Integer({ description: 'Position of the `ask` step in its flow, from 0' }),
        question: Type.Integer({ description: 'Which of the questions of that step, from 1' }),
        until: Timestamp,
      },
      { description: "The question that waits for the contact's answer; null where none does" },
    ),
  ),
  fallbackReason: Nullable(
    Type.String({ description: 'Why the default team got it, where the flow could not decide' }),
  ),
  waitingSince: Nullable(
    Type.String({
      format: 'date-time',
      description:
        'When it first began to wait. It stays set after the assignment, and a transfer or a return to the queue keeps it; null where ' +
        'it never waited',
    }),
  ),
  offer: Nullable(
    Type.Object(
      { agentId: Id, expiresAt: Timestamp },
      { description: 'Whom it is offered to, whose capacity holds its units until then; null unless it is offered' },
    ),
  ),
  preferredAgentId: Nullable(Type.String({ description: 'Who comes first if able, for having known the contact' })),
  quietSince: Nullable(
    Type.String({
      format: 'date-time',
      description:
        "Since when it takes nothing of its agent's capacity, until the contact writes again; null while it counts",
    }),
  ),
  forced: Type.Boolean({ description: 'Assigned by hand over the capacity of the agent' }),
});

export function viewConversation(row: ConversationRow): Static<typeof ConversationView> {
  const { id, contactId, state, source, channel, units, priority, slaSeconds, effectivePriority, teamId, agentId } =
    row;
  const { flowVersionId, fields, fieldSources, asking, fallbackReason, forced } = row;
  const { requirements, ring, offeredAgentId, offerExpiresAt } = row;
  return {
    id,
    contactId,
    state,
    source,
    channel,
    units,
    priority,
    slaSeconds,
    effectivePriority,
    skills: [...skillsAfter(requirements, ring)],
    requirements,
    ring,
    teamId,
    agentId,
    flowVersionId,
    fields,
    fieldSources,
    asking: asking === null ? null : { ...asking, until: asking.until.toISOString() },
    fallbackReason,
    forced,
    openedAt: row.openedAt.toISOString(),
    routedAt: isoOrNull(row.routedAt),
    assignedAt: isoOrNull(row.assignedAt),
    closedAt: isoOrNull(row.closedAt),
    closeRequestedAt: isoOrNull(row.closeRequestedAt),
    closing:
      row.closeRequestedAt === null
        ? null
        : { category: row.closeCategory, summary: row.closeSummary, reason: row.closeReason },
    waitingSince: isoOrNull(row.waitingSince),
    offer:
      offeredAgentId === null || offerExpiresAt === null
        ? null
        : { agentId: offeredAgentId, expiresAt: offerExpiresAt.toISOString() },
    preferredAgentId: row.preferredAgentId,
    quietSince: isoOrNull(row.quietSince),
  };
}

export const DecisionView = Type.Object({
  id: Id,
  kind: OneOf(['enrichment', 'routing', 'assignment']),
  at: Timestamp,
  summary: Type.String({ description: 'One sentence for people' }),
  detail: JsonObject,
});

export function viewDecision(row: DecisionRow): Static<typeof DecisionView> {
  const { id, kind, detail } = row;
  return { id, kind, at: row.at.toISOString(), summary: summarizeDecision(row), detail };
}

export const ContactView = Type.Object({
  id: Id,
  name: NullableText,
  attributes: JsonObject,
  identities: Type.Array(Type.Object({ channel: Type.String(), externalId: Type.String() })),
  openConversationId: NullableId,
  createdAt: Timestamp,
});

export function viewContact(row: ContactRow): Static<typeof ContactView> {
  const { id, name, attributes, openConversationId } = row;
  const identities = [...row.identities];
  return { id, name, attributes, identities, openConversationId, createdAt: row.createdAt.toISOString() };
}

export const EventView = Type.Object({
  id: Type.Integer({ description: 'Grows; also the cursor' }),
  type: OneOf(eventTypes),
  conversationId: NullableId,
  contactId: NullableId,
  data: JsonObject,
  at: Timestamp,
});

export function viewEvent(row: EventRow): Static<typeof EventView> {
  const { id, type, conversationId, contactId, data } = row;
  return { id, type, conversationId, contactId, data, at: row.at.toISOString() };
}

export function isoOrNull(time: Date | null): string | null {
  return time === null ? null : time.toISOString();
}
