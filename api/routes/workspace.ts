import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { closeNotes, getWorkspace, updateWorkspaceSettings, type WorkspaceSettings } from '../../store/settings.ts';
import { rotateWebhookSecret } from '../../store/webhook-secrets.ts';
import type { ApiDeps } from '../dependencies.ts';
import { Body, errorResponses, Id, NameText, Nullable, OneOf } from '../schemas.ts';

const tags = ['Workspace'];
const Name = NameText(200, { examples: ['Acme'] });

/** Null switches a rule off. */
const settingsSchemas = {
  closeNotes: OneOf(closeNotes, {
    description:
      'Whether a close names a category and a summary. off: neither is taken; optional: either may be left out; ' +
      'category_required; both_required. Once there are close categories, a close names one of them',
  }),
  inactivityMinutes: Nullable(
    Type.Integer({
      minimum: 30,
      maximum: 20_160,
      description:
        'Minutes since the last message of a person, contact or agent, after which an assigned conversation is closed. null: never',
    }),
  ),
  reopenMinutes: Nullable(
    Type.Integer({
      minimum: 1,
      maximum: 10_080,
      description:
        'Minutes since a close within which a new conversation of the contact prefers the same agent. null: it does not',
    }),
  ),
  heartbeatExpirySeconds: Type.Integer({
    minimum: 10,
    maximum: 3600,
    description:
      'Seconds since its last heartbeat after which an agent is set away, if it has sent one since it came online',
  }),
} satisfies Record<keyof WorkspaceSettings, unknown>;

const WorkspaceView = Type.Object({ id: Id, name: Type.String(), ...settingsSchemas });
const changes = Type.Partial(Type.Object({ name: Name, ...settingsSchemas })).properties;

export function workspaceRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/workspace',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'Get the workspace of the key, with the rules for all of it',
          response: { 200: WorkspaceView, ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId } }) => getWorkspace(pool, workspaceId),
    );

    app.patch(
      '/workspace',
      {
        config: { scope: 'admin' },
        schema: {
          tags,
          summary: 'Change the rules for the whole workspace',
          description:
            'Only the members sent are changed; null switches a rule off. They hold for the next close and the next heartbeat; ' +
            '`inactivityMinutes` also for the conversations that are open now.',
          body: Body(changes),
          response: { 200: WorkspaceView, ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, body: { name, ...settings } }) =>
        updateWorkspaceSettings(pool, { workspaceId, ...(name === undefined ? {} : { name }), settings }),
    );

    app.post(
      '/workspace/rotate-webhook-secret',
      {
        config: { scope: 'admin' },
        schema: {
          tags,
          summary: 'Make another secret for the webhooks of flows',
          description:
            'It is shown here and never again. For 24 hours, webhooks bear a signature with the one before as well.',
          response: {
            200: Type.Object({
              webhookSecret: Type.String({ description: 'What signs the webhooks, as Standard Webhooks has it' }),
            }),
            ...errorResponses(),
          },
        },
      },
      async ({ principal: { workspaceId } }) => ({ webhookSecret: await rotateWebhookSecret(pool, workspaceId) }),
    );
  };
}
