import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { diffFlows } from '../../routing/flow-diff.ts';
import { publishFlow, rollBackFlow } from '../../store/flow-publishing.ts';
import { getFlow, getFlowDocument, getFlowVersion, listFlowVersions, type FlowVersionName } from '../../store/flows.ts';
import type { ApiDeps } from '../dependencies.ts';
import {
  FlowVersionView,
  invalidFlow,
  LiveVersionView,
  noFlowProblem,
  unknownVersion,
  viewDocument,
  viewFlowVersionFor,
  viewLiveVersion,
} from '../flow-views.ts';
import { problem, type Problem } from '../problems.ts';
import { Body, decodeCursor, errorResponses, Id, IdParams, listOf, ListQuery, OneOf, toPage } from '../schemas.ts';

const MAX_NUMBER = 999_999_999;
const VersionNumber = Type.Integer({ minimum: 1, maximum: MAX_NUMBER, description: 'Of a published version, from 1' });

/** A version of a flow by its number, or by what it is now. */
const VersionName = Type.String({
  pattern: '^(draft|live|[1-9][0-9]{0,8})$',
  description: 'Number of a published version, `live` or `draft`',
  fault: 'names no version',
  mend: 'Send the number of a version, live or draft.',
  examples: ['live'],
});

export function flowVersionsRoutes(deps: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(publishRoutes(deps));
    await app.register(readingRoutes(deps));
  };
}

function publishRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/flows/:id/publish',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Flows'],
          summary: 'Publish the draft as the next version',
          description: 'New conversations run by it; those under way keep the version they began with.',
          params: IdParams,
          response: { 201: LiveVersionView, ...errorResponses(404, 409, 422) },
        },
      },
      async ({ principal: { workspaceId }, params }, reply) => {
        const result = await publishFlow(pool, { workspaceId, flowId: params.id });
        if (result.kind === 'invalid') throw invalidFlow(result);
        if (result.kind !== 'published') throw noFlowProblem(result);
        return reply.code(201).send(viewLiveVersion(result.version, result.hints));
      },
    );

    app.post(
      '/flows/:id/rollback',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Flows'],
          summary: 'Make an older version live again',
          description:
            'No new version is made, and the draft stays as it is. The version is checked anew: what it names may be gone by now.',
          params: IdParams,
          body: Body({ number: VersionNumber }),
          response: { 200: LiveVersionView, ...errorResponses(404, 409, 422) },
        },
      },
      async ({ principal: { workspaceId }, params, body: { number } }) => {
        const result = await rollBackFlow(pool, { workspaceId, flowId: params.id, number });
        if (result.kind === 'invalid') throw invalidFlow(result);
        if (result.kind === 'unknown_version') throw unknownVersion('/number');
        if (result.kind !== 'rolled_back') throw noFlowProblem(result);
        return viewLiveVersion(result.version, result.hints);
      },
    );
  };
}

function readingRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/flows/:id/versions',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Flows'],
          summary: 'List the published versions of a flow, newest first',
          params: IdParams,
          querystring: ListQuery,
          response: { 200: listOf(FlowVersionView), ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId, scope }, params, query: { limit, cursor } }) => {
        const key = { workspaceId, flowId: params.id };
        if ((await getFlow(pool, key)) === null) throw problem('not_found');
        const beforeNumber = numberOf(decodeCursor(cursor, /^[1-9][0-9]{0,8}$/));
        const rows = await listFlowVersions(pool, { ...key, beforeNumber, limit: limit + 1 });
        // Versions go by number; ids of versions published by two machines at once may disagree with it.
        return toPage(rows, limit, viewFlowVersionFor(scope), ({ number }) => String(number));
      },
    );

    app.get(
      '/flows/:id/versions/:number',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Flows'],
          summary: 'Get a published version of a flow',
          params: Type.Object({ id: Id, number: Type.String({ pattern: '^[1-9][0-9]{0,8}$' }) }),
          response: { 200: FlowVersionView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId, scope }, params }) => {
        const number = Number(params.number);
        const version = await getFlowVersion(pool, { workspaceId, flowId: params.id, number });
        if (version === null) throw problem('not_found');
        return viewFlowVersionFor(scope)(version);
      },
    );

    app.get(
      '/flows/:id/diff',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Flows'],
          summary: 'What differs between two versions of a flow',
          description:
            'Branches are told apart by their names. Keys that are not admin see addresses without their query, and no difference that is only there.',
          params: IdParams,
          querystring: Type.Object(
            { from: { ...VersionName, default: 'live' }, to: { ...VersionName, default: 'draft' } },
            { additionalProperties: false },
          ),
          response: { 200: Type.Object({ changes: Type.Array(FlowChangeView) }), ...errorResponses(404, 422) },
        },
      },
      async ({ principal: { workspaceId, scope }, params, query }) => {
        const flow = await getFlow(pool, { workspaceId, flowId: params.id });
        if (flow === null) throw problem('not_found');
        const from = await getFlowDocument(pool, { workspaceId, flow, version: versionOf(query.from) });
        const to = await getFlowDocument(pool, { workspaceId, flow, version: versionOf(query.to) });
        if (from === null) throw noVersion('from', query.from);
        if (to === null) throw noVersion('to', query.to);
        return { changes: diffFlows(viewDocument(from, scope), viewDocument(to, scope)) };
      },
    );
  };
}

const FlowChangeView = Type.Object({
  kind: OneOf(['added', 'removed', 'changed', 'moved']),
  path: Type.String({ description: 'JSON pointer into the document' }),
  from: Type.Optional(Type.Unknown({ description: 'Left out where it was added' })),
  to: Type.Optional(Type.Unknown({ description: 'Left out where it was removed' })),
});

const noVersion = (field: string, name: string): Problem =>
  name === 'live'
    ? unknownVersion(field, 'The flow is not live. Send the number of a version, or draft.')
    : unknownVersion(field);

function versionOf(name: string): FlowVersionName {
  return name === 'draft' || name === 'live' ? name : Number(name);
}

function numberOf(cursor: string | null): number | null {
  return cursor === null ? null : Number(cursor);
}
