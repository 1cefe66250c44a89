/** What Switchyard sends by itself, as it is described to whoever receives it. worker/outbound.ts sends it, store/outgoing.ts writes it. */
import { Type, type TProperties } from '@fastify/type-provider-typebox';
import { Id, NullableId, OneOf, Timestamp } from './schemas.ts';

const Sent = <Data extends TProperties>(type: string, data: Data) =>
  Type.Object({ type: Type.Literal(type), timestamp: Timestamp, data: Type.Object(data) });

const ofConversation = { conversationId: Id, contactId: Id };
const nullableBranch = Type.Union([Type.String(), Type.Null()], { description: 'null: `otherwise`' });

export const webhookBodies = {
  'message.outbound': Sent('message.outbound', {
    ...ofConversation,
    messageId: Id,
    channel: Type.String({ description: 'Key' }),
    contact: Type.Object({ externalIds: Type.Array(Type.String(), { description: 'On this channel' }) }),
    text: Type.String(),
    sequence: Type.Integer({ description: 'In the thread' }),
    author: OneOf(['agent', 'flow']),
    agentId: NullableId,
    choices: Type.Optional(Type.Array(Type.Object({ value: Type.Unknown(), label: Type.String() }))),
  }),
  'flow.routed': Sent('flow.routed', {
    ...ofConversation,
    reason: Type.Literal('routed'),
    branch: nullableBranch,
    teamId: Type.Union([Id, Type.Null()], { description: 'null: the conversation is closed' }),
  }),
  'flow.nobody_available': Sent('flow.nobody_available', {
    ...ofConversation,
    reason: Type.Literal('nobody_available'),
    teamId: Id,
    ring: Type.Integer({ description: 'Which one, from 1' }),
    afterSeconds: Type.Integer({ description: 'Of the ring: since the conversation came into the queue' }),
    then: OneOf(['wait', 'close']),
  }),
};

const summaries: Readonly<Record<keyof typeof webhookBodies, string>> = {
  'message.outbound': 'A message to a contact, at the `outboundUrl` of its channel',
  'flow.routed': 'A branch has decided, at its `webhookUrl`',
  'flow.nobody_available': 'Nobody was found until the last ring, at its `webhookUrl`',
};

const description =
  'Signed by Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`). The same may come twice, with the same `webhook-id`. Any 2xx ' +
  'within ten seconds takes it; else it is sent again, for three days.';

const operationOf = (type: keyof typeof webhookBodies) => ({
  post: {
    tags: ['Deliveries'],
    summary: summaries[type],
    description,
    requestBody: { required: true, content: { 'application/json': { schema: webhookBodies[type] } } },
    responses: { '2XX': { description: 'Taken' }, '410': { description: 'Nothing more is wanted here' } },
  },
});

/** As OpenAPI 3.1 has them. */
export const webhooks: Readonly<Record<string, object>> = Object.fromEntries(
  (Object.keys(webhookBodies) as (keyof typeof webhookBodies)[]).map((type) => [type, operationOf(type)]),
);
