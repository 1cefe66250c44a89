/**
 * Ends actors whose contacts have been quiet for days; the next message starts them again. One worker at a time asks Temporal
 * which runs are old, PostgreSQL which of their contacts are idle, and signals those to end. A timer in every actor would do the same
 * at the price of two events in every cycle, and a run timeout would make healthy runs look failed.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import { acquireLeases, releaseLeases } from '../store/leases.ts';
import type { ContactKey } from '../store/locks.ts';
import { readIdleContacts } from '../store/upkeep.ts';
import { contactWorkflowId, contactWorkflowType, parseContactWorkflowId, retireSignal } from '../workflows/contract.ts';

const leaseName = 'retirement';
const roundMs = 10 * 60_000;
const pageSize = 500;

export interface Retirement {
  stop(): Promise<void>;
}

export function startRetirement(options: {
  pool: pg.Pool;
  client: Client;
  idleMs: number;
  logger: Logger;
}): Retirement {
  const { pool, logger } = options;
  const owner = randomUUID();
  const stopping = new AbortController();
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await delay(roundMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) break;
      try {
        const [held] = await acquireLeases(pool, { names: [leaseName], owner, ttlMs: 2 * roundMs });
        if (held === undefined) continue;
        // A round may take minutes, or hang with a server that is away; closing does not wait for it.
        const retired = await options.client.withAbortSignal(stopping.signal, () => retireIdleActors(options));
        if (retired > 0) logger.info({ retired }, 'ended actors of quiet contacts');
      } catch (error) {
        if (stopping.signal.aborted) break;
        logger.warn({ err: error }, 'could not end actors of quiet contacts');
      }
    }
    await releaseLeases(pool, { names: [leaseName], owner }).catch(() => undefined);
  }

  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** One round over all runs older than `idleMs`. @returns how many actors were told to end */
export async function retireIdleActors({
  pool,
  client,
  idleMs,
}: {
  pool: pg.Pool;
  client: Client;
  idleMs: number;
}): Promise<number> {
  const startedBefore = new Date(Date.now() - idleMs).toISOString();
  const query = `WorkflowType = '${contactWorkflowType}' AND ExecutionStatus = 'Running' AND StartTime < '${startedBefore}'`;
  let retired = 0;
  let page: ContactKey[] = [];
  for await (const { workflowId } of client.workflow.list({ query, pageSize })) {
    const contact = parseContactWorkflowId(workflowId);
    if (contact !== null) page.push(contact);
    if (page.length === pageSize) {
      retired += await retirePage(page);
      page = [];
    }
  }
  return retired + (await retirePage(page));

  async function retirePage(contacts: readonly ContactKey[]): Promise<number> {
    if (contacts.length === 0) return 0;
    const idle = await readIdleContacts(pool, { contacts, idleMs });
    for (const contact of idle) {
      try {
        await client.workflow.getHandle(contactWorkflowId(contact)).signal(retireSignal);
      } catch (error) {
        if (!(error instanceof WorkflowNotFoundError)) throw error;
      }
    }
    return idle.length;
  }
}
