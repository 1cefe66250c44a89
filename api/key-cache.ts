import { timingSafeEqual } from 'node:crypto';
import { hashSecret, parseKey, type StoredKey } from '../store/keys.ts';
import type { Principal } from './principal.ts';

export interface KeyCache {
  /** Who holds the key, or null when it is unknown, wrong or revoked. Rejects when the database cannot be asked. */
  authenticate(key: string): Promise<Principal | null>;
}

export interface KeyCacheOptions {
  findKey(id: string): Promise<StoredKey | null>;
  /** How long a key is trusted without asking again: a revocation is in force everywhere after this time. */
  ttlMs?: number;
  /** How long an unknown key id stays unknown. */
  unknownTtlMs?: number;
  maxEntries?: number;
  now?: () => number;
}

/**
 * Keeps what the database said about a key for a few seconds, so that a request costs no query. The cache is by key id and
 * holds hashes only; the secret is compared on every request, in constant time. Its size is bounded: whoever tries ids at
 * random pushes out the oldest entries, which only costs their owners one more query.
 */
export function createKeyCache(options: KeyCacheOptions): KeyCache {
  const { findKey, ttlMs = 5_000, unknownTtlMs = 1_000, maxEntries = 10_000, now = () => performance.now() } = options;
  const entries = new Map<string, { stored: StoredKey | null; expiresAt: number }>();
  const lookups = new Map<string, Promise<StoredKey | null>>();

  function lookUp(id: string): Promise<StoredKey | null> {
    const running = lookups.get(id);
    if (running !== undefined) return running;
    // The clock starts before the question: an answer may be as old as the question.
    const askedAt = now();
    const lookup = findKey(id)
      .then((stored) => {
        entries.delete(id);
        entries.set(id, { stored, expiresAt: askedAt + (stored === null ? unknownTtlMs : ttlMs) });
        if (entries.size > maxEntries) {
          const [oldest] = entries.keys();
          if (oldest !== undefined) entries.delete(oldest);
        }
        return stored;
      })
      .finally(() => lookups.delete(id));
    lookups.set(id, lookup);
    return lookup;
  }

  return {
    async authenticate(key) {
      const parts = parseKey(key);
      if (parts === null) return null;
      const entry = entries.get(parts.id);
      const stored = entry !== undefined && entry.expiresAt > now() ? entry.stored : await lookUp(parts.id);
      if (stored === null || stored.revokedAt !== null) return null;
      if (!timingSafeEqual(hashSecret(parts.secret), stored.secretHash)) return null;
      return { workspaceId: stored.workspaceId, scope: stored.scope, keyId: stored.id, agentId: stored.agentId };
    },
  };
}
