import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import { acquireLeases, readLeases, releaseLeases } from '../store/leases.ts';
import { shardCount } from '../store/outbox.ts';

/** After a worker is killed its shards are taken over within this time. */
const ttlMs = 5_000;
const renewMs = 1_000;

const memberPrefix = 'relay-member/';
const shardPrefix = 'relay-shard/';
const shardName = (shard: number): string => `${shardPrefix}${shard}`;

export interface ShardLeases {
  /** The shards this process may work on now; renews, takes and gives back at most once a second. */
  hold(): Promise<readonly number[]>;
  release(): Promise<void>;
}

/**
 * Divides the shards among the live workers. Each announces itself by a lease and aims at an equal part, so that a new worker is
 * noticed by the others, who give back what they have too much of.
 */
export function createShardLeases({
  pool,
  owner,
  logger,
}: {
  pool: pg.Pool;
  owner: string;
  logger: Logger;
}): ShardLeases {
  let held: number[] = [];
  let renewedAt = -Infinity;

  async function renew(): Promise<void> {
    const startedAt = performance.now();
    await acquireLeases(pool, { names: [memberPrefix + owner], owner, ttlMs });
    const members = await readLeases(pool, memberPrefix);
    const taken = await readLeases(pool, shardPrefix);
    const fairPart = Math.ceil(shardCount / Math.max(members.length, 1));
    const foreign = new Set(taken.filter((lease) => lease.owner !== owner).map((lease) => lease.name));
    const mine = taken.filter((lease) => lease.owner === owner).map((lease) => lease.name);
    const free = Array.from({ length: shardCount }, (_, shard) => shardName(shard)).filter(
      (name) => !foreign.has(name) && !mine.includes(name),
    );
    const surplus = mine.slice(fairPart);
    if (surplus.length > 0) await releaseLeases(pool, { names: surplus, owner });
    const wanted = [...mine, ...free].slice(0, fairPart);
    const names = await acquireLeases(pool, { names: wanted, owner, ttlMs });
    const next = names.map((name) => Number(name.slice(shardPrefix.length))).sort((a, b) => a - b);
    if (next.join() !== held.join()) logger.info({ shards: next }, 'relay shards changed');
    held = next;
    // Counted from before the statements: the lease must never seem longer here than it is in the database.
    renewedAt = startedAt;
  }

  return {
    async hold() {
      if (performance.now() - renewedAt >= renewMs) {
        try {
          await renew();
        } catch (error) {
          if (performance.now() - renewedAt >= ttlMs) held = [];
          throw error;
        }
      }
      return held;
    },
    async release() {
      await releaseLeases(pool, { names: [memberPrefix + owner, ...held.map(shardName)], owner }).catch(
        () => undefined,
      );
    },
  };
}
