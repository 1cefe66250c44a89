/** What the API shows of each row: the schema of the answer and the function that makes it, side by side. */
import { Type, type Static } from '@fastify/type-provider-typebox';
import type { Agent } from '../store/agents.ts';
import type { ContactRow } from '../store/contacts.ts';
import type { ConversationRow, DecisionRow } from '../store/conversations.ts';
import { eventTypes, type EventRow } from '../store/events.ts';
import type { FlowRow, FlowVersionRow } from '../store/flows.ts';
import type { MessageRow } from '../store/messages.ts';
import type { Team } from '../store/teams.ts';
import { summarizeDecision } from './decision-summary.ts';
import { Id, Nullable, NullableId, OneOf, Timestamp } from './schemas.ts';

const NullableText = Nullable(Type.String());
const NullableTimestamp = Nullable(Timestamp);

/** JSON as it was given, or as a version of this code wrote it. */
const JsonObject = Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true });

export const conversationStates = ['enriching', 'routing', 'waiting', 'assigned', 'closed'] as const;
export const conversationSources = ['contact', 'user', 'api'] as const;
export const presences = ['online', 'away', 'offline'] as const;
export const strategies = ['round_robin', 'least_loaded'] as const;

export const MessageView = Type.Object({
  id: Id,
  contactId: Id,
  conversationId: Nullable(Type.String({ description: 'null while the message waits for a conversation' })),
  direction: OneOf(['inbound', 'outbound'], { description: 'inbound: from the contact; outbound: a reply' }),
  sequence: Type.Integer({ description: 'Place among all messages of the contact, without gaps' }),
  channel: Nullable(Type.String({ description: 'Key of the channel; null for a reply' })),
  externalId: NullableText,
  agentId: Nullable(Type.String({ description: 'Who replied' })),
  text: NullableText,
  attachments: Type.Array(Type.Unknown()),
  sentAt: Nullable(Type.String({ format: 'date-time', description: 'When the contact sent it, as the channel says' })),
  receivedAt: Timestamp,
});

export function viewMessage(row: MessageRow): Static<typeof MessageView> {
  const { id, contactId, conversationId, direction, sequence, channel, externalId, agentId, text } = row;
  return {
    id,
    contactId,
    conversationId,
    direction,
    sequence,
    channel,
    externalId,
    agentId,
    text,
    attachments: [...(row.attachments ?? [])],
    sentAt: isoOrNull(row.sentAt),
    receivedAt: row.receivedAt.toISOString(),
  };
}

export const ConversationView = Type.Object({
  id: Id,
  contactId: Id,
  state: OneOf(conversationStates),
  source: OneOf(conversationSources, { description: 'Who opened it' }),
  priority: Type.Integer({ description: 'Higher is served first' }),
  teamId: NullableId,
  agentId: NullableId,
  flowVersionId: NullableId,
  openedAt: Timestamp,
  routedAt: NullableTimestamp,
  assignedAt: NullableTimestamp,
  closedAt: NullableTimestamp,
  closeRequestedAt: NullableTimestamp,
  closing: Nullable(Type.Object({ category: NullableText, summary: NullableText })),
  fields: JsonObject,
  fallbackReason: Nullable(
    Type.String({ description: 'Why the default team got it, where the flow could not decide' }),
  ),
  waitingSince: NullableTimestamp,
  forced: Type.Boolean({ description: 'Assigned by hand over the capacity of the agent' }),
});

export function viewConversation(row: ConversationRow): Static<typeof ConversationView> {
  const { id, contactId, state, source, priority, teamId, agentId, flowVersionId, fields, fallbackReason, forced } =
    row;
  return {
    id,
    contactId,
    state,
    source,
    priority,
    teamId,
    agentId,
    flowVersionId,
    fields,
    fallbackReason,
    forced,
    openedAt: row.openedAt.toISOString(),
    routedAt: isoOrNull(row.routedAt),
    assignedAt: isoOrNull(row.assignedAt),
    closedAt: isoOrNull(row.closedAt),
    closeRequestedAt: isoOrNull(row.closeRequestedAt),
    closing: row.closeRequestedAt === null ? null : { category: row.closeCategory, summary: row.closeSummary },
    waitingSince: isoOrNull(row.waitingSince),
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

export const AgentView = Type.Object({
  id: Id,
  name: Type.String(),
  capacity: Type.Integer({ description: 'How many units of work the agent may have at once' }),
  load: Type.Integer({ description: 'What the open conversations of the agent cost' }),
  skills: Type.Unsafe<Record<string, number>>({ type: 'object', additionalProperties: { type: 'integer' } }),
  teamIds: Type.Array(Id),
  presence: OneOf(presences),
  presenceChangedAt: NullableTimestamp,
  heartbeatAt: NullableTimestamp,
  createdAt: Timestamp,
});

export function viewAgent(agent: Agent): Static<typeof AgentView> {
  const { id, name, capacity, load, skills, presence } = agent;
  return {
    id,
    name,
    capacity,
    load,
    skills,
    presence,
    teamIds: [...agent.teamIds],
    presenceChangedAt: isoOrNull(agent.presenceChangedAt),
    heartbeatAt: isoOrNull(agent.heartbeatAt),
    createdAt: agent.createdAt.toISOString(),
  };
}

export const TeamView = Type.Object({
  id: Id,
  name: Type.String(),
  strategy: OneOf(strategies),
  isDefault: Type.Boolean({ description: 'Gets what no flow decides' }),
  version: Type.Integer({ description: 'Grows with every change of what matching uses' }),
  createdAt: Timestamp,
});

export function viewTeam(team: Team): Static<typeof TeamView> {
  const { id, name, strategy, isDefault, version } = team;
  return { id, name, strategy, isDefault, version, createdAt: team.createdAt.toISOString() };
}

export const FlowView = Type.Object({
  id: Id,
  name: Type.String(),
  description: Type.String(),
  document: Type.Unsafe<object>({ ...JsonObject, description: 'The draft' }),
  publishedVersionId: NullableId,
  publishedNumber: Nullable(Type.Integer()),
  createdAt: Timestamp,
  updatedAt: Timestamp,
});

export function viewFlow(row: FlowRow): Static<typeof FlowView> {
  const { id, name, description, document, publishedVersionId, publishedNumber } = row;
  return {
    id,
    name,
    description,
    document,
    publishedVersionId,
    publishedNumber,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  };
}

export const FlowVersionView = Type.Object({
  id: Id,
  flowId: Id,
  number: Type.Integer(),
  document: Type.Unsafe<object>({ ...JsonObject, description: 'Never changes' }),
  publishedAt: Timestamp,
});

export function viewFlowVersion(row: FlowVersionRow): Static<typeof FlowVersionView> {
  const { id, flowId, number, document } = row;
  return { id, flowId, number, document, publishedAt: row.publishedAt.toISOString() };
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

function isoOrNull(time: Date | null): string | null {
  return time === null ? null : time.toISOString();
}
