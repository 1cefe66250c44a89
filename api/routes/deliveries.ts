import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { withoutQuery } from '../../routing/web-address.ts';
import { findChannelId } from '../../store/channels.ts';
import {
  deliveryStates,
  getDelivery,
  listDeliveries,
  retryDelivery,
  retryFailedDeliveries,
  type DeliveryRow,
} from '../../store/delivery-records.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  Id,
  IdParams,
  listOf,
  listQueryProperties,
  Nullable,
  NullableId,
  OneOf,
  SafeText,
  Timestamp,
  decodeCursor,
  errorResponses,
  toPage,
} from '../schemas.ts';
import { acceptNoBody } from '../validation.ts';

const tags = ['Deliveries'];

const DeliveryView = Type.Object({
  id: Type.String({ description: 'Also the `webhook-id` of each request' }),
  kind: OneOf(['message', 'webhook'], {
    description: 'message: to a contact, by way of its channel; webhook: of a flow',
  }),
  state: OneOf(deliveryStates),
  conversationId: Id,
  contactId: Id,
  messageId: NullableId,
  channel: Nullable(Type.String({ description: 'Key of the channel; null for a webhook' })),
  url: Nullable(Type.String({ description: 'Of a webhook, without its query' })),
  attempts: Type.Integer({ description: 'Those that failed' }),
  lastError: Nullable(Type.String()),
  nextAttemptAt: Nullable(Type.String({ format: 'date-time', description: 'null once it has failed' })),
  createdAt: Timestamp,
});

export function deliveriesRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/deliveries',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'List what channels and webhooks could not be told, or not yet',
          description: 'The oldest first. What is delivered is not listed; messages say so themselves.',
          querystring: Type.Object(
            {
              ...listQueryProperties,
              state: Type.Optional(
                OneOf(deliveryStates, {
                  description: 'pending: still to be sent, or sent again; failed: given up. Left out: both',
                }),
              ),
            },
            { additionalProperties: false },
          ),
          response: { 200: listOf(DeliveryView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor, state } }) => {
        const after = decodeCursor(cursor);
        const states = state === undefined ? deliveryStates : [state];
        const lists = await Promise.all(
          states.map((one) => listDeliveries(pool, { workspaceId, state: one, after, limit: limit + 1 })),
        );
        // One that fails between the two reads is in both, and the later state counts.
        const rows = [...new Map(lists.flat().map((row) => [row.id, row])).values()];
        rows.sort((one, other) => (one.id < other.id ? -1 : 1));
        return toPage(rows, limit, viewDelivery);
      },
    );

    app.post(
      '/deliveries/:id/retry',
      {
        config: { scope: 'admin' },
        schema: {
          tags,
          summary: 'Send again what failed, or at once what waits for its next attempt',
          description:
            'What failed begins anew, before what is pending behind it in its conversation. What is pending keeps its count of attempts and is ' +
            'due now.',
          params: IdParams,
          response: { 200: DeliveryView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const key = { workspaceId, deliveryId: params.id };
        const before = await getDelivery(pool, key);
        if (before === null) throw problem('not_found');
        await retryDelivery(pool, key);
        // It may have arrived meanwhile, and be gone.
        return viewDelivery((await getDelivery(pool, key)) ?? { ...before, state: 'pending', attempts: 0 });
      },
    );

    app.post(
      '/deliveries/retry',
      {
        config: { scope: 'admin' },
        preValidation: acceptNoBody,
        schema: {
          tags,
          summary: 'Send again all that failed, or all of one channel',
          body: Body({
            channel: Type.Optional({ ...SafeText(64), description: 'Key of a channel', examples: ['webchat'] }),
          }),
          response: {
            200: Type.Object({ retried: Type.Integer({ description: 'How many are sent again' }) }),
            ...errorResponses(422),
          },
        },
      },
      async ({ principal: { workspaceId }, body: { channel } }) => {
        const channelId = channel === undefined ? null : await findChannelId(pool, { workspaceId, key: channel });
        if (channel !== undefined && channelId === null) {
          throw problem('unknown_reference', {
            errors: [{ field: '/channel', message: 'is not the key of a channel', mend: 'Send the key of a channel.' }],
          });
        }
        return { retried: await retryFailedDeliveries(pool, { workspaceId, channelId }) };
      },
    );
  };
}

function viewDelivery({ dueAt, createdAt, url, ...row }: DeliveryRow) {
  return {
    ...row,
    url: url === null ? null : withoutQuery(url),
    nextAttemptAt: row.state === 'pending' ? (dueAt?.toISOString() ?? null) : null,
    createdAt: createdAt.toISOString(),
  };
}
