import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import {
  createFlow,
  getFlow,
  listFlows,
  listFlowVersions,
  publishFlow,
  updateFlow,
  type InvalidFlow,
} from '../../store/flows.ts';
import { FlowDocument } from '../../routing/flow-document.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  decodeCursor,
  encodeCursor,
  errorResponses,
  IdParams,
  listOf,
  ListQuery,
  NameText,
  SafeText,
  toPage,
} from '../schemas.ts';
import { FlowVersionView, FlowView, viewFlow, viewFlowVersion } from '../views.ts';

const Name = NameText(200, { examples: ['Support'] });
const Description = SafeText(2000, { minLength: 0 });

const DocumentedDocument = {
  ...FlowDocument,
  description:
    'What the flow does. Conditions are CEL expressions over `conversation` (source, priority), `contact` (id, name, ' +
    'attributes), `channel` (key, name), `message` (text of the first messages) and `fields` (what enrichment found). ' +
    'A condition that cannot be evaluated, as for a field that is not there, counts as false. The branch that decides, or ' +
    '`otherwise`, may ask for skills (`requirements`: named outright, or by the text of a field) and tell what changes while ' +
    'nobody is found (`rings`: lower levels, then another team, and in the end a fallback).',
  examples: [
    {
      trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact'" },
      enrichment: [
        {
          kind: 'keywords',
          field: 'purpose',
          rules: [{ value: 'billing', keywords: ['invoice', 'rechnung'] }],
          otherwise: 'general',
        },
      ],
      routing: {
        branches: [
          {
            name: 'Billing',
            when: "fields.purpose == 'billing'",
            teamId: '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11',
            priority: 10,
            requirements: [
              { skill: 'spanish', level: 4 },
              { skillFromField: 'purpose', level: 2, preferred: true },
            ],
            rings: [
              { afterSeconds: 30, relax: [{ skill: 'spanish', level: 2 }] },
              { afterSeconds: 90, relax: [{ skill: 'spanish', level: 0 }] },
              { afterSeconds: 180, overflowTeamId: '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b12' },
              { afterSeconds: 600, fallback: 'close' },
            ],
          },
        ],
        otherwise: { teamId: '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b12', priority: 0 },
      },
    },
  ],
};

/** Checked openly: the flow's own check names every fault, and what to do about it. */
const Document = Type.Unsafe<unknown>({});

export function flowsRoutes(deps: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(draftRoutes(deps));
    await app.register(versionRoutes(deps));
  };
}

function draftRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/flows',
      {
        config: {
          scope: 'admin',
          documentedBody: Body({ name: Name, description: Type.Optional(Description), document: DocumentedDocument }),
        },
        schema: {
          tags: ['Flows'],
          summary: 'Create a flow as a draft',
          description:
            'A draft must be valid; it does nothing until it is published. Of several published flows, the oldest whose trigger ' +
            'matches runs; where none matches, the default team gets the conversation.',
          body: Body({ name: Name, description: Type.Optional(Description), document: Document }),
          response: { 201: FlowView, ...errorResponses(422) },
        },
      },
      async ({ principal: { workspaceId }, body: { name, description = '', document } }, reply) => {
        const result = await createFlow(pool, { workspaceId, name, description, document });
        if (result.kind === 'invalid') throw invalidFlow(result);
        return reply.code(201).send(viewFlow(result.flow));
      },
    );

    app.get(
      '/flows',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Flows'],
          summary: 'List flows with their drafts',
          querystring: ListQuery,
          response: { 200: listOf(FlowView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor } }) => {
        const rows = await listFlows(pool, { workspaceId, after: decodeCursor(cursor), limit: limit + 1 });
        return toPage(rows, limit, viewFlow);
      },
    );

    app.get(
      '/flows/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Flows'],
          summary: 'Get a flow with its draft',
          params: IdParams,
          response: { 200: FlowView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const flow = await getFlow(pool, { workspaceId, flowId: params.id });
        if (flow === null) throw problem('not_found');
        return viewFlow(flow);
      },
    );

    app.patch(
      '/flows/:id',
      {
        config: {
          scope: 'admin',
          documentedBody: Type.Partial(Body({ name: Name, description: Description, document: DocumentedDocument })),
        },
        schema: {
          tags: ['Flows'],
          summary: 'Change the draft of a flow',
          description: 'What is published stays as it is. `document` replaces the whole draft.',
          params: IdParams,
          body: Body({
            name: Type.Optional(Name),
            description: Type.Optional(Description),
            document: Type.Optional(Document),
          }),
          response: { 200: FlowView, ...errorResponses(404, 422) },
        },
      },
      async ({ principal: { workspaceId }, params, body }) => {
        const result = await updateFlow(pool, { workspaceId, flowId: params.id, ...body });
        if (result.kind === 'not_found') throw problem('not_found');
        if (result.kind === 'invalid') throw invalidFlow(result);
        return viewFlow(result.flow);
      },
    );
  };
}

function versionRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
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
          response: { 201: FlowVersionView, ...errorResponses(404, 422) },
        },
      },
      async ({ principal: { workspaceId }, params }, reply) => {
        const result = await publishFlow(pool, { workspaceId, flowId: params.id });
        if (result.kind === 'not_found') throw problem('not_found');
        if (result.kind === 'invalid') throw invalidFlow(result);
        return reply.code(201).send(viewFlowVersion(result.version));
      },
    );

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
      async ({ principal: { workspaceId }, params, query: { limit, cursor } }) => {
        const key = { workspaceId, flowId: params.id };
        if ((await getFlow(pool, key)) === null) throw problem('not_found');
        const beforeNumber = numberOf(decodeCursor(cursor, /^[1-9][0-9]{0,8}$/));
        const rows = await listFlowVersions(pool, { ...key, beforeNumber, limit: limit + 1 });
        const page = toPage(rows, limit, viewFlowVersion);
        const last = page.items.at(-1);
        // Versions go by number; ids of versions published by two machines at once may disagree with it.
        return { ...page, nextCursor: page.nextCursor && last ? encodeCursor(String(last.number)) : null };
      },
    );
  };
}

function numberOf(cursor: string | null): number | null {
  return cursor === null ? null : Number(cursor);
}

function invalidFlow({ faults }: InvalidFlow) {
  return problem('invalid_flow', {
    detail: `The flow has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}; nothing was changed.`,
    errors: faults.map(({ path, message, at, mend }) => ({
      field: `/document${path}`,
      message: at === undefined ? message : `${message} /document${at}`,
      mend,
    })),
  });
}
