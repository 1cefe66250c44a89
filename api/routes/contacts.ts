import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { getContact, listContacts } from '../../store/contacts.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import { decodeCursor, errorResponses, IdParams, listOf, ListQuery, toPage } from '../schemas.ts';
import { ContactView, viewContact } from '../views.ts';

/** Contacts come into being with their first message; here they are read. */
export function contactsRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/contacts',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Contacts'],
          summary: 'List contacts, newest first',
          querystring: ListQuery,
          response: { 200: listOf(ContactView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor } }) => {
        const rows = await listContacts(pool, { workspaceId, after: decodeCursor(cursor), limit: limit + 1 });
        return toPage(rows, limit, viewContact);
      },
    );

    app.get(
      '/contacts/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Contacts'],
          summary: 'Get a contact with its identities and its open conversation',
          params: IdParams,
          response: { 200: ContactView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const contact = await getContact(pool, { workspaceId, contactId: params.id });
        if (contact === null) throw problem('not_found');
        return viewContact(contact);
      },
    );
  };
}
