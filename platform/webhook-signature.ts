/** Signatures of what is sent to other systems, as Standard Webhooks has them (standardwebhooks.com), so that receivers have libraries for them. */
import { createHmac, randomBytes } from 'node:crypto';

/** A secret as receivers keep it: `whsec_`, then its bytes in base64. */
export const createWebhookSecret = (): string => `${prefix}${randomBytes(secretBytes).toString('base64')}`;

/**
 * The headers that identify and sign one attempt. Several secrets give several signatures, of which a receiver needs to know one; there must be one at
 * least. `body` is exactly what is sent.
 */
export function signWebhook({ id, body, secrets, atMs }: SignedContent): Record<WebhookHeader, string> {
  if (secrets.length === 0) throw new Error('a webhook cannot be signed without a secret');
  const timestamp = String(Math.floor(atMs / 1_000));
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(prefix.length), 'base64');
    return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`;
  });
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') };
}

export interface SignedContent {
  readonly id: string;
  readonly body: string;
  readonly secrets: readonly string[];
  readonly atMs: number;
}

type WebhookHeader = 'webhook-id' | 'webhook-timestamp' | 'webhook-signature';

const prefix = 'whsec_';
/** The scheme asks for 24 to 64. */
const secretBytes = 32;
