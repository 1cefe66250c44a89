/** The secret that signs the webhooks of a workspace's flows. */
import { createWebhookSecret } from '../platform/webhook-signature.ts';
import type { Queryable } from './database.ts';

/** Makes one if there is none: webhooks are signed from the first on, also before anybody asked for the secret. */
export async function requireWebhookSecret(db: Queryable, workspaceId: string): Promise<string> {
  const { rows } = await db.query<{ secret: string }>({
    name: 'require-webhook-secret',
    text: `UPDATE workspaces SET webhook_secret = coalesce(webhook_secret, $2) WHERE id = $1 RETURNING webhook_secret AS secret`,
    values: [workspaceId, createWebhookSecret()],
  });
  return rows[0]!.secret;
}

/** Another one, told here and never again. The one before signs beside it for a day (store/deliveries.ts). */
export async function rotateWebhookSecret(db: Queryable, workspaceId: string): Promise<string> {
  const { rows } = await db.query<{ secret: string }>({
    name: 'rotate-webhook-secret',
    text: `UPDATE workspaces
           SET webhook_secret_before = webhook_secret, webhook_secret = $2, webhook_secret_at = now()
           WHERE id = $1 RETURNING webhook_secret AS secret`,
    values: [workspaceId, createWebhookSecret()],
  });
  return rows[0]!.secret;
}
