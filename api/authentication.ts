import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { KeyCache } from './key-cache.ts';
import { allowsScope, type Principal } from './principal.ts';
import { problem } from './problems.ts';

/**
 * Runs before the body is read: whoever has no key costs next to nothing. Routes say what they need by `config.scope`; the
 * ones without a scope (health, documents) are open.
 */
export function authenticateRequests(app: FastifyInstance, keys: KeyCache): void {
  app.decorateRequest('principal', null as unknown as Principal);
  app.addHook('onRequest', async (request) => {
    const { scope } = request.routeOptions.config;
    if (scope === undefined) return;
    const principal = await keys.authenticate(readBearer(request));
    if (principal === null) throw problem('unauthorized', { detail: 'The key is unknown or was revoked.' });
    if (!allowsScope(principal.scope, scope)) {
      throw problem('forbidden', { detail: `This needs a key of scope ${scope}; yours has scope ${principal.scope}.` });
    }
    request.principal = principal;
  });
}

function readBearer(request: FastifyRequest): string {
  const match = /^Bearer +([^ ]+) *$/i.exec(request.headers.authorization ?? '');
  if (match?.[1] === undefined) {
    throw problem('unauthorized', { detail: 'Send the header "Authorization: Bearer <key>".' });
  }
  return match[1];
}
