import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance, RouteOptions } from 'fastify';
import { problemResponses } from './schemas.ts';
import { webhooks } from './webhooks.ts';

const tags = [
  { name: 'Messages', description: 'What contacts write' },
  { name: 'Contacts', description: 'Who writes' },
  { name: 'Conversations', description: 'Opened by the first message, closed by an agent' },
  { name: 'Agents', description: 'Who answers' },
  { name: 'Teams', description: 'Agents who share a queue' },
  { name: 'Flows', description: 'How conversations are enriched and routed' },
  { name: 'Events', description: 'Everything that happens, in order' },
  { name: 'Channels', description: 'Where contacts write' },
  { name: 'Deliveries', description: 'What channels and webhooks are still to be told' },
  { name: 'Workspace', description: 'Rules that hold for all teams' },
  { name: 'Keys', description: 'Who may call this API' },
  { name: 'Health', description: 'For load balancers and operators' },
];

/**
 * OpenAPI 3.1 at /openapi.json and a readable form at /docs, from the same schemas that validate. Register before any route. A route
 * under /v1 without a scope, a tag or a summary stops the start: no operation stays open or undocumented by oversight.
 */
export async function documentRoutes(app: FastifyInstance): Promise<void> {
  app.addHook('onRoute', (route) => {
    if (route.url.startsWith('/v1/')) describeRoute(route);
  });
  await app.register(swagger, {
    transform: ({ schema, url, route }) => {
      const body = route.config?.documentedBody;
      const documented = body === undefined ? schema : { ...schema, body };
      return { schema: { ...documented, querystring: withoutNeedlessNames(documented?.querystring) }, url };
    },
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Switchyard',
        version: '0.1.0',
        description:
          'Routing of inbound customer conversations. Ids are UUIDv7, times ISO 8601 in UTC, errors problem+json (RFC 9457). ' +
          'Lists answer `{items, nextCursor}`; send nextCursor as `cursor` to get the next page.\n\n' +
          'Where the operator limits the rate of a key, answers to calls that the key may make have RateLimit-Limit, RateLimit-Remaining and ' +
          'RateLimit-Reset (seconds); those without a valid key, or without its scope, have not. What is too much is refused with 429 and ' +
          'Retry-After, and nothing of it is processed or counted. A message of a batch counts like a request of its own. Wherever an answer ' +
          'has Retry-After, the same request may be sent again after that many seconds.\n\n' +
          'Errors of 5xx have a `requestId`, by which the operator finds their cause in the log.',
        license: { name: 'MIT', identifier: 'MIT' },
      },
      servers: [{ url: '/', description: 'This server' }],
      tags,
      webhooks,
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            description: 'A key of the workspace: `sy_<id>_<secret>`. Scope admin includes agent and ingest.',
          },
        },
      },
    },
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    // The plugin's own policy upgrades to https, which breaks the page where this API is served over plain http.
    staticCSP:
      "default-src 'self'; base-uri 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'self'; form-action 'none'",
    theme: {
      title: 'Switchyard API',
      css: [{ filename: 'switchyard.css', content: '.swagger-ui .topbar { display: none }' }],
    },
  });
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
}

/** What has a default is required once it is validated, and of nobody who calls. */
function withoutNeedlessNames(querystring: unknown): unknown {
  const { required, properties } = (querystring ?? {}) as QuerySchema;
  if (required === undefined) return querystring;
  return {
    ...(querystring as QuerySchema),
    required: required.filter((name) => properties?.[name]?.default === undefined),
  };
}

interface QuerySchema {
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, { readonly default?: unknown }>>;
}

const METHODS_WITH_BODY = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);

function describeRoute(route: RouteOptions): void {
  const { scope } = route.config ?? {};
  const { tags: routeTags, summary, description } = route.schema ?? {};
  if (scope === undefined || routeTags === undefined || summary === undefined) {
    throw new Error(`${String(route.method)} ${route.url} needs config.scope, schema.tags and schema.summary`);
  }
  const response = route.schema?.response as Record<string, unknown> | undefined;
  const needs = scope === 'admin' ? 'Needs a key of scope `admin`.' : `Needs a key of scope \`${scope}\` or \`admin\`.`;
  route.schema = {
    ...route.schema,
    // Also where the schema asks for no body: what is sent is read first.
    ...(METHODS_WITH_BODY.has(String(route.method)) && { response: { ...problemResponses(413, 415), ...response } }),
    security: [{ bearer: [] }],
    description: description === undefined ? needs : `${description}\n\n${needs}`,
  };
}
