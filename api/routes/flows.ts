import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { archiveFlow, orderFlows, restoreFlow, unpublishFlow, type OrderFaults } from '../../store/flow-publishing.ts';
import { readDocumentHints } from '../../store/flow-hints.ts';
import { checkDocument, createFlow, getFlow, listFlows, updateFlow } from '../../store/flows.ts';
import type { ApiDeps } from '../dependencies.ts';
import { DocumentedDocument, flowJsonSchema, OpenDocument } from '../flow-document-schema.ts';
import {
  DocumentFaultView,
  FlowView,
  HintView,
  invalidFlow,
  noFlowProblem,
  viewDocumentFault,
  viewFlow,
  viewFlowFor,
  viewHint,
} from '../flow-views.ts';
import { problem, type Problem } from '../problems.ts';
import {
  Body,
  decodeCursor,
  errorResponses,
  Id,
  IdParams,
  listOf,
  listQueryProperties,
  NameText,
  Nullable,
  SafeText,
  toPage,
} from '../schemas.ts';
import { flowTrialRoutes } from './flow-trial.ts';
import { flowVersionsRoutes } from './flow-versions.ts';

const Name = NameText(200, { examples: ['Support'] });
const Description = SafeText(2000, { minLength: 0 });

export function flowsRoutes(deps: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(draftRoutes(deps));
    await app.register(documentRoutes(deps));
    await app.register(orderRoutes(deps));
    await app.register(flowVersionsRoutes(deps));
    await app.register(flowTrialRoutes(deps));
  };
}

function draftRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/flows',
      {
        config: {
          scope: 'admin',
          documentedBody: Body({
            name: Name,
            description: Type.Optional(Description),
            document: DocumentedDocument,
          }),
        },
        schema: {
          tags: ['Flows'],
          summary: 'Create a flow as a draft',
          description:
            'A draft must be valid; it does nothing until it is published, and is the last one in the order. Of several published flows, the ' +
            'first in the order whose trigger matches runs; where none matches, the default team gets the conversation.',
          body: Body({ name: Name, description: Type.Optional(Description), document: OpenDocument }),
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
          summary: 'List flows with their drafts, in the order in which they are asked',
          querystring: Type.Object(
            {
              ...listQueryProperties,
              archived: Type.Boolean({ default: false, description: 'True: those that are archived instead' }),
            },
            { additionalProperties: false },
          ),
          response: { 200: listOf(FlowView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId, scope }, query: { limit, cursor, archived } }) => {
        const after = decodeCursor(cursor);
        const rows = await listFlows(pool, { workspaceId, after, limit: limit + 1, isArchived: archived });
        return toPage(rows, limit, viewFlowFor(scope));
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
      async ({ principal: { workspaceId, scope }, params }) => {
        const flow = await getFlow(pool, { workspaceId, flowId: params.id });
        if (flow === null) throw problem('not_found');
        return viewFlowFor(scope)(flow);
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
            document: Type.Optional(OpenDocument),
          }),
          response: { 200: FlowView, ...errorResponses(404, 409, 422) },
        },
      },
      async ({ principal: { workspaceId }, params, body }) => {
        const result = await updateFlow(pool, { workspaceId, flowId: params.id, ...body });
        if (result.kind === 'invalid') throw invalidFlow(result);
        if (result.kind !== 'updated') throw noFlowProblem(result);
        return viewFlow(result.flow);
      },
    );
  };
}

function documentRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    const schema = flowJsonSchema();
    app.get(
      '/flows/schema',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Flows'],
          summary: 'The JSON Schema of a flow’s document',
          description: 'Draft 2020-12, for editors and for checks where no Switchyard runs.',
          response: {
            200: Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true }),
            ...errorResponses(),
          },
        },
      },
      () => schema,
    );

    app.post(
      '/flows/validate',
      {
        config: { scope: 'agent', documentedBody: Body({ document: DocumentedDocument }) },
        schema: {
          tags: ['Flows'],
          summary: 'Check a document without storing it',
          description:
            'By the rules by which drafts are checked, against the teams and skills of today. A fault is no error here.',
          body: Body({ document: OpenDocument }),
          response: {
            200: Type.Object({
              valid: Type.Boolean(),
              faults: Type.Array(DocumentFaultView),
              hints: Type.Array(HintView, {
                description:
                  'Of a valid document: no faults, but hardly meant, apart from what the order of the flows would tell',
              }),
              document: Nullable(
                Type.Unsafe<object>({
                  type: 'object',
                  additionalProperties: true,
                  description: 'As it would be stored, with its defaults; null where it is not valid',
                }),
              ),
            }),
            ...errorResponses(),
          },
        },
      },
      async ({ principal: { workspaceId }, body }) => {
        const checked = await checkDocument(pool, workspaceId, body.document);
        if (checked.kind === 'invalid') {
          return { valid: false, faults: checked.faults.map(viewDocumentFault), hints: [], document: null };
        }
        const { document } = checked;
        const hints = await readDocumentHints(pool, { workspaceId, document });
        return { valid: true, faults: [], hints: hints.map(viewHint), document };
      },
    );
  };
}

function orderRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.put(
      '/flows/order',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Flows'],
          summary: 'Set the order in which flows are asked',
          description:
            'Names every flow that is not archived exactly once, drafts included; it holds for the next opening. The first flow whose trigger ' +
            'matches runs.',
          body: Body({ flowIds: Type.Array(Id, { maxItems: 1000 }) }),
          response: { 200: Type.Object({ items: Type.Array(FlowView) }), ...errorResponses(422) },
        },
      },
      async ({ principal: { workspaceId }, body: { flowIds } }) => {
        const result = await orderFlows(pool, { workspaceId, flowIds });
        if (result.kind === 'not_every_flow_once') throw orderProblem(result);
        return { items: result.flows.map(viewFlow) };
      },
    );

    const changes = [
      {
        path: 'unpublish',
        summary: 'Withdraw what is published',
        description:
          'The flow runs for nobody from the next opening on; conversations under way keep their version. Draft and versions stay.',
        change: unpublishFlow,
      },
      {
        path: 'archive',
        summary: 'Withdraw a flow and put it away',
        description:
          'It is listed no more unless asked for, and cannot be changed or published until it is restored. Its versions stay.',
        change: archiveFlow,
      },
      {
        path: 'restore',
        summary: 'Take an archived flow back as a draft',
        description: 'It is unpublished, and the last one in the order.',
        change: restoreFlow,
      },
    ] as const;
    for (const { path, summary, description, change } of changes) {
      app.post(
        `/flows/:id/${path}`,
        {
          config: { scope: 'admin' },
          schema: {
            tags: ['Flows'],
            summary,
            description,
            params: IdParams,
            response: { 200: FlowView, ...errorResponses(404, ...(path === 'unpublish' ? [409] : [])) },
          },
        },
        async ({ principal: { workspaceId }, params }) => {
          const result = await change(pool, { workspaceId, flowId: params.id });
          if (!('flow' in result)) throw noFlowProblem(result);
          return viewFlow(result.flow);
        },
      );
    }
  };
}

function orderProblem({ doubled, unknown, missing }: OrderFaults): Problem {
  const mend = 'Name every flow that is not archived once.';
  return problem('flow_order', {
    detail: 'Nothing was changed.',
    errors: [
      ...unknown.map((place) => ({
        field: `/flowIds/${place}`,
        message: 'is no flow of this workspace, or an archived one',
        mend: 'Remove it.',
      })),
      ...doubled.map((place) => ({ field: `/flowIds/${place}`, message: 'is named before', mend: 'Name it once.' })),
      ...missing.map(({ id, name }) => ({ field: '/flowIds', message: `lacks the flow ${id} (${name})`, mend })),
    ],
  });
}
