/** One attempt to tell a channel or a webhook, and what its outcome means. */
import { GuardedRequestError, requestGuarded } from '../platform/guarded-request.ts';
import { literalAddressOf } from '../platform/private-addresses.ts';
import { readRetryAfterMs } from '../platform/retry-after.ts';
import { signWebhook } from '../platform/webhook-signature.ts';
import type { ClaimedDelivery } from '../store/deliveries.ts';

export type AttemptOutcome =
  | { readonly kind: 'delivered' }
  /** It was given up before its end. */
  | { readonly kind: 'cancelled' }
  | {
      readonly kind: 'failed';
      /** Fit for customers: names no address, and nothing that was answered. */
      readonly error: string;
      readonly isFinal: boolean;
      /** The receiver's wish; null: none. */
      readonly retryAfterMs: number | null;
    };

export interface AttemptOptions {
  readonly privateCidrs: readonly string[];
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Any 2xx says that it has arrived. 410 says that nothing more is wanted there; an address that is none, or a private one, will not do either. */
export async function attemptDelivery(
  { id, url, payload, secrets }: ClaimedDelivery & { readonly url: string },
  { privateCidrs, timeoutMs, signal }: AttemptOptions,
): Promise<AttemptOutcome> {
  const body = JSON.stringify(payload);
  try {
    const { status, headers } = await requestGuarded({
      url,
      method: 'POST',
      headers: { 'content-type': 'application/json', ...signWebhook({ id, body, secrets, atMs: Date.now() }) },
      body,
      timeoutMs,
      maxBytes: maxAnswerBytes,
      cutBody: true,
      signal,
      allowedHosts: null,
      privateCidrs,
      privateCidrsSetting: 'OUTBOUND_PRIVATE_CIDRS',
    });
    if (status >= 200 && status <= 299) return { kind: 'delivered' };
    const retryAfterMs = readRetryAfterMs(headers['retry-after']);
    return { kind: 'failed', error: `answered ${status}`, isFinal: status === 410, retryAfterMs };
  } catch (error) {
    if (!(error instanceof GuardedRequestError)) throw error;
    if (error.kind === 'cancelled') return { kind: 'cancelled' };
    const isFinal = error.kind === 'refused' && !hasName(url);
    return { kind: 'failed', error: error.reason, isFinal, retryAfterMs: null };
  }
}

/** What is refused there may be taken another day, when the name leads elsewhere; an address stays what it is. */
const hasName = (url: string): boolean => URL.canParse(url) && literalAddressOf(new URL(url)) === null;

/** What is answered is not looked at; a little is read, so that the connection can be used again. */
const maxAnswerBytes = 4_096;
