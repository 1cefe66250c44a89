import type { TSchema } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { problem } from './problems.ts';

export type Scope = 'ingest' | 'agent' | 'admin';

/** Who is calling: what the key stands for. */
export interface Principal {
  workspaceId: string;
  scope: Scope;
  keyId: string;
  /** The one agent this key acts as, or null when the key is bound to none. */
  agentId: string | null;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before validation on every route whose config names a scope. */
    principal: Principal;
  }
  interface FastifyContextConfig {
    /** What a key must allow. Every route under /v1 names one; the app refuses to start otherwise. */
    scope?: Scope;
    /** The route checks the text of its body by itself, item by item. */
    checksTextItself?: boolean;
    /** What the document shows in place of a body schema that is looser because the route checks the rest. */
    documentedBody?: TSchema;
  }
}

/** An admin key may do everything; agent and ingest keys do not include each other. */
export function allowsScope(held: Scope, needed: Scope): boolean {
  return held === 'admin' || held === needed;
}

/**
 * The agent on whose behalf a request acts, or null when nobody is named. A key that is bound to an agent is that agent: a
 * body that names another one is refused (403).
 */
export function actingAgent(request: FastifyRequest, named?: string | null): string | null {
  const bound = request.principal.agentId;
  if (bound === null) return named ?? null;
  if (named != null && named !== bound) {
    throw problem('forbidden', {
      detail: 'This key is bound to another agent.',
      errors: [{ field: '/agentId', message: 'is not the agent of this key', mend: 'Leave agentId out.' }],
    });
  }
  return bound;
}

/** As `actingAgent`, for calls that cannot do without one (422 naming /agentId). */
export function requireActingAgent(request: FastifyRequest, named?: string | null): string {
  const agentId = actingAgent(request, named);
  if (agentId === null) {
    throw problem('agent_required', {
      detail: 'The key is not bound to an agent, so the body must say who acts.',
      errors: [{ field: '/agentId', message: 'is required', mend: 'Send agentId, or use a key bound to the agent.' }],
    });
  }
  return agentId;
}
