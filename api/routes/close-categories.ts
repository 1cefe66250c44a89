import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import {
  createCloseCategory,
  deleteCloseCategory,
  listCloseCategories,
  maxCloseCategories,
  type CloseCategory,
} from '../../store/close-categories.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  decodeCursor,
  errorResponses,
  Id,
  IdParams,
  listOf,
  ListQuery,
  NameText,
  Timestamp,
  toPage,
} from '../schemas.ts';

const tags = ['Workspace'];
const CloseCategoryView = Type.Object({ id: Id, name: Type.String(), createdAt: Timestamp });

export function closeCategoriesRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/close-categories',
      {
        config: { scope: 'admin' },
        schema: {
          tags,
          summary: 'Make a category for closes',
          description: `Once there is one, a close may name only these. At most ${maxCloseCategories} in a workspace.`,
          body: Body({
            name: NameText(200, {
              description: 'At most 200 characters; upper and lower case count as the same',
              examples: ['Refund'],
            }),
          }),
          response: { 201: CloseCategoryView, ...errorResponses(409) },
        },
      },
      async ({ principal: { workspaceId }, body: { name } }, reply) => {
        const result = await createCloseCategory(pool, { workspaceId, name });
        if (result.kind === 'name_taken') throw nameTaken(result.name);
        if (result.kind === 'too_many') throw tooMany();
        return reply.code(201).send(viewCloseCategory(result.category));
      },
    );

    app.get(
      '/close-categories',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'List the categories that a close may name',
          querystring: ListQuery,
          response: { 200: listOf(CloseCategoryView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor } }) => {
        const rows = await listCloseCategories(pool, { workspaceId, after: decodeCursor(cursor), limit: limit + 1 });
        return toPage(rows, limit, viewCloseCategory);
      },
    );

    app.delete(
      '/close-categories/:id',
      {
        config: { scope: 'admin' },
        schema: {
          tags,
          summary: 'Remove a category for closes',
          description:
            'Conversations that were closed with it keep its name. Without any left, a close may name what it likes.',
          params: IdParams,
          response: { 204: Type.Null({ description: 'Removed' }), ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }, reply) => {
        const result = await deleteCloseCategory(pool, { workspaceId, categoryId: params.id });
        if (result.kind === 'not_found') throw problem('not_found');
        return reply.code(204).send(null);
      },
    );
  };
}

function viewCloseCategory({ id, name, createdAt }: CloseCategory) {
  return { id, name, createdAt: createdAt.toISOString() };
}

function nameTaken(name: string) {
  return problem('conflict.name_taken', {
    errors: [{ field: '/name', message: `There is a category named ${name} already.`, mend: 'Choose another name.' }],
  });
}

function tooMany() {
  return problem('conflict.too_many', {
    detail: `The workspace has ${maxCloseCategories} close categories, which is the most it may have.`,
    errors: [{ field: '/name', message: 'would be one category too many', mend: 'Delete a category first.' }],
  });
}
