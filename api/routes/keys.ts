import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { getAgent } from '../../store/agents.ts';
import { KEY_ID_PATTERN, createKey, getKey, listKeys, updateKey, type Key } from '../../store/keys.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  Id,
  ListQuery,
  NameText,
  Nullable,
  NullableId,
  OneOf,
  Timestamp,
  decodeCursor,
  errorResponses,
  listOf,
  toPage,
} from '../schemas.ts';

const KEY_ID = new RegExp(KEY_ID_PATTERN);
const KeyParams = Type.Object({
  id: Type.String({ pattern: KEY_ID_PATTERN, description: 'The middle part of the key' }),
});
const scopes = ['ingest', 'agent', 'admin'] as const;

const keyProperties = {
  id: KeyParams.properties.id,
  scope: OneOf(scopes),
  name: Type.String(),
  agentId: NullableId,
  createdAt: Timestamp,
  revokedAt: Nullable(Timestamp),
};
const KeyView = Type.Object(keyProperties);
const NewKeyView = Type.Object({
  ...keyProperties,
  key: Type.String({ description: 'The key itself. It is shown this once and stored nowhere.' }),
});

export function keysRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/keys',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Keys'],
          summary: 'Make a key',
          body: Body({
            scope: OneOf(scopes, { description: 'ingest, agent or admin; admin includes the others' }),
            name: NameText(256, { examples: ['Web chat gateway'] }),
            agentId: Type.Optional(Id),
          }),
          response: { 201: NewKeyView, ...errorResponses(422) },
        },
      },
      async (request, reply) => {
        const { workspaceId } = request.principal;
        const { scope, name, agentId } = request.body;
        if (agentId !== undefined && scope !== 'agent') {
          const mend = 'Leave agentId out, or make a key of scope agent.';
          throw problem('invalid_request', {
            errors: [{ field: '/agentId', message: 'goes with scope agent only', mend }],
          });
        }
        if (agentId !== undefined && (await getAgent(pool, { workspaceId, agentId })) === null) {
          throw problem('unknown_reference', {
            errors: [
              {
                field: '/agentId',
                message: 'is not the id of an agent',
                mend: 'Use the id of an agent of this workspace.',
              },
            ],
          });
        }
        const { id, key, createdAt } = await createKey(pool, { workspaceId, scope, name, agentId: agentId ?? null });
        const view = viewKey({ id, scope, name, agentId: agentId ?? null, createdAt, revokedAt: null });
        return reply
          .code(201)
          .header('cache-control', 'no-store')
          .send({ ...view, key });
      },
    );

    app.get(
      '/keys',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Keys'],
          summary: 'List the keys, without their secrets',
          querystring: ListQuery,
          response: { 200: listOf(KeyView), ...errorResponses() },
        },
      },
      async (request) => {
        const { limit, cursor } = request.query;
        const after = decodeCursor(cursor, KEY_ID);
        const rows = await listKeys(pool, { workspaceId: request.principal.workspaceId, after, limit: limit + 1 });
        return toPage(rows, limit, viewKey);
      },
    );

    app.get(
      '/keys/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Keys'],
          summary: 'Read a key, without its secret',
          params: KeyParams,
          response: { 200: KeyView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const key = await getKey(pool, { workspaceId: request.principal.workspaceId, keyId: request.params.id });
        if (key === null) throw problem('not_found');
        return viewKey(key);
      },
    );

    app.patch(
      '/keys/:id',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Keys'],
          summary: 'Rename or revoke a key',
          description:
            'A revoked key is refused everywhere within five seconds, its event streams end within six, and it stays revoked.',
          params: KeyParams,
          body: Body({ name: Type.Optional(NameText(256)), revoked: Type.Optional(Type.Literal(true)) }),
          response: { 200: KeyView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        const { name, revoked } = request.body;
        const outcome = await updateKey(pool, { workspaceId, keyId: request.params.id, name, revoke: revoked });
        if (outcome.kind === 'not_found') throw problem('not_found');
        return viewKey(outcome.key);
      },
    );
  };
}

function viewKey({ id, scope, name, agentId, createdAt, revokedAt }: Key) {
  return {
    id,
    scope,
    name,
    agentId,
    createdAt: createdAt.toISOString(),
    revokedAt: revokedAt?.toISOString() ?? null,
  };
}
