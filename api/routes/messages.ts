import { Type, type FastifyPluginAsyncTypebox, type Static } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { getMessage } from '../../store/messages.ts';
import type { AcceptedMessage, IngestItem, IngestResult } from '../../store/ingest.ts';
import type { ApiDeps } from '../dependencies.ts';
import { logFailure, toProblem, viewProblem } from '../error-answers.ts';
import { Problem, problem, type FieldFault } from '../problems.ts';
import {
  Attributes,
  Body,
  Id,
  IdParams,
  NullableId,
  ProblemSchema,
  SafeText,
  TimestampInput,
  errorResponses,
} from '../schemas.ts';
import { findSchemaFaults, findUnstorable } from '../validation.ts';
import { MessageView, viewMessage } from '../views.ts';

const MAX_BATCH_MESSAGES = 500;
const BATCH_BODY_LIMIT_BYTES = 4 * 1024 * 1024;
/** A valid message has 161 at the most; a batch has room for far larger ones, which would be slow to refuse value by value. */
const MAX_MESSAGE_VALUES = 200;

const Attachment = Body({
  url: Type.String({
    format: 'uri',
    pattern: '^https?://',
    maxLength: 2048,
    description: 'an http or https address',
    fault: 'is no web address',
    mend: 'Send an http or https address.',
  }),
  contentType: Type.Optional(SafeText(255, { examples: ['image/png'] })),
  name: Type.Optional(SafeText(255)),
  size: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Bytes' })),
});

const MessageInput = Body(
  {
    channel: SafeText(64, { description: "The channel's key", examples: ['webchat'] }),
    externalId: SafeText(256, {
      description: "The message's id in its channel: the same id again is the same message",
      examples: ['m-1'],
    }),
    contact: Body({
      externalId: SafeText(256, { description: "The contact's id in its channel", examples: ['visitor-7'] }),
      id: Type.Optional(Id),
      name: Type.Optional(SafeText(256)),
      attributes: Type.Optional(Attributes('Laid over those that the contact has; null is a value too')),
    }),
    text: Type.Optional(SafeText(16_384)),
    attachments: Type.Optional(Type.Array(Attachment, { minItems: 1, maxItems: 20 })),
    sentAt: Type.Optional(TimestampInput),
  },
  { description: 'Text, attachments or both' },
);
type MessageInput = Static<typeof MessageInput>;

const acceptedProperties = {
  messageId: Id,
  contactId: Id,
  conversationId: NullableId,
  sequence: Type.Integer({ description: "The contact's messages and the replies to it, numbered without a gap" }),
  duplicate: Type.Boolean({ description: 'Whether the message had been stored before' }),
};
const Accepted = Type.Object(acceptedProperties, {
  description: 'Stored. conversationId is null while the message waits for a conversation.',
});

const batchSize = { minItems: 1, maxItems: MAX_BATCH_MESSAGES };
const BatchInput = Body({ messages: Type.Array(MessageInput, batchSize) });
// What is checked of the batch as a whole; each message is then checked by itself.
const BatchEnvelope = Body({ messages: Type.Array(Type.Unknown(), batchSize) });

// One object with all members optional, not a union: the serialiser would validate each item to find the branch.
const BatchResult = Type.Object(
  { ...Type.Partial(Accepted).properties, error: Type.Optional(ProblemSchema) },
  { description: 'As for a single message, or `{error}` with the problem of this message alone' },
);

export function messagesRoutes({ pool, ingest }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/messages',
      {
        config: { scope: 'ingest' },
        schema: {
          tags: ['Messages'],
          summary: 'Take in a message',
          description: 'Answers after the message is stored. Repeating a delivery is harmless.',
          body: MessageInput,
          response: { 202: Accepted, ...errorResponses(409, 422) },
        },
      },
      async (request, reply) => {
        const { workspaceId } = request.principal;
        const errors = findContentFaults(request.body);
        if (errors.length > 0) throw problem('invalid_request', { errors });
        const result = await ingest.add(toIngestItem(workspaceId, request.body));
        if (result.kind !== 'accepted') throw describeRefusal(result.kind);
        return reply.code(202).send(viewAccepted(result));
      },
    );

    app.post(
      '/messages/batch',
      {
        config: { scope: 'ingest', checksTextItself: true, documentedBody: BatchInput },
        bodyLimit: BATCH_BODY_LIMIT_BYTES,
        schema: {
          tags: ['Messages'],
          summary: 'Take in up to 500 messages',
          description:
            'One result per message, in order. A message that is refused harms no other. 503 where none could be stored for now.',
          body: BatchEnvelope,
          response: {
            202: Type.Object({ results: Type.Array(BatchResult) }),
            ...errorResponses(),
          },
        },
      },
      async (request, reply) => {
        const { messages } = request.body;
        request.takeTokens(reply, messages.length);
        return takeInBatch(request, reply, messages);
      },
    );

    app.get(
      '/messages/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Messages'],
          summary: 'Read a message',
          params: IdParams,
          response: { 200: MessageView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const message = await getMessage(pool, {
          workspaceId: request.principal.workspaceId,
          messageId: request.params.id,
        });
        if (message === null) throw problem('not_found');
        return viewMessage(message);
      },
    );

    async function takeInBatch(request: FastifyRequest, reply: FastifyReply, messages: unknown[]) {
      const { workspaceId } = request.principal;
      // All are added before any is awaited, so that they travel together and keep their order.
      const results = await Promise.all(
        messages.map(async (message) => {
          try {
            const result = await ingest.add(toIngestItem(workspaceId, checkMessage(request, message)));
            return result.kind === 'accepted' ? viewAccepted(result) : describeRefusal(result.kind);
          } catch (error) {
            return toProblem(error as Error);
          }
        }),
      );
      // Nothing of it was stored for want of room or of the database: the answer that every client knows how to take.
      const [first] = results;
      if (first instanceof Problem && first.statusCode === 503 && results.every(isUnavailable)) throw first;
      logFailures(results, request);
      const views = results.map((result) =>
        result instanceof Problem ? { error: viewProblem(result, request) } : result,
      );
      return reply.code(202).send({ results: views });
    }
  };
}

/** What the route of a single message has Fastify do. */
function checkMessage(request: FastifyRequest, message: unknown): MessageInput {
  const validate = request.getValidationFunction(MessageInput) ?? request.compileValidationSchema(MessageInput);
  let errors = findUnstorable(message, validate, MAX_MESSAGE_VALUES);
  if (errors.length === 0) errors = findSchemaFaults(message, validate);
  if (errors.length === 0) errors = findContentFaults(message as MessageInput);
  if (errors.length > 0) throw problem('invalid_request', { errors });
  return message as MessageInput;
}

function findContentFaults({ text, attachments }: MessageInput): FieldFault[] {
  if (text !== undefined || attachments !== undefined) return [];
  return [{ field: '/text', message: 'is required where there are no attachments', mend: 'Send text or attachments.' }];
}

function toIngestItem(workspaceId: string, { sentAt, ...message }: MessageInput): IngestItem {
  // PostgreSQL knows fewer offsets than RFC 3339: it gets UTC.
  return { workspaceId, ...message, ...(sentAt === undefined ? {} : { sentAt: new Date(sentAt).toISOString() }) };
}

function viewAccepted({ messageId, contactId, conversationId, sequence, duplicate }: AcceptedMessage) {
  return { messageId, contactId, conversationId, sequence, duplicate };
}

const isUnavailable = (result: object): boolean => result instanceof Problem && result.statusCode === 503;

/** One line for each kind: hundreds of a batch fail alike. */
function logFailures(results: object[], request: FastifyRequest): void {
  const kinds = new Map<string, Problem>();
  for (const result of results) {
    if (result instanceof Problem && result.statusCode >= 500) kinds.set(result.problemName, result);
  }
  for (const failure of kinds.values()) logFailure(failure, request);
}

function describeRefusal(kind: Exclude<IngestResult['kind'], 'accepted'>): Problem {
  switch (kind) {
    case 'unknown_channel':
      return problem('unknown_reference', {
        errors: [{ field: '/channel', message: 'is not the key of a channel', mend: 'Make the channel first.' }],
      });
    case 'unknown_contact':
      return problem('unknown_reference', {
        errors: [
          { field: '/contact/id', message: 'is not the id of a contact', mend: 'Leave it out to make a new contact.' },
        ],
      });
    case 'key_of_another_contact':
      return problem('conflict.key_of_another_contact', {
        errors: [
          {
            field: '/externalId',
            message: 'was used in this channel for a message of another contact',
            mend: 'Send an id that no other message of the channel has.',
          },
        ],
      });
    case 'identity_of_another_contact':
      return problem('conflict.identity_of_another_contact', {
        errors: [
          {
            field: '/contact/externalId',
            message: 'belongs to another contact than /contact/id',
            mend: 'Leave out /contact/id, or send the id of that contact.',
          },
        ],
      });
  }
}
