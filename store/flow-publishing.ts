/**
 * What is live: published, unpublished, rolled back, archived, restored, and the order in which flows are asked. Each holds the flow's row, or
 * all rows of the workspace by id, so that none reaches into another; the next opening goes by what was committed.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { usesNetwork } from '../routing/flow-document.ts';
import { transact, type Queryable } from './database.ts';
import { readHints } from './flow-hints.ts';
import {
  checkDocument,
  getFlowVersion,
  listFlows,
  noFlow,
  requireFlow,
  versionColumns,
  type FlowKey,
  type FlowRow,
  type FlowVersionRow,
  type InvalidFlow,
  type NoFlow,
} from './flows.ts';

/**
 * Makes the draft the next version and the one that new conversations run by. The flow's row is locked, so that two who
 * publish at once get two numbers and the higher one stands.
 */
export async function publishFlow(
  pool: pg.Pool,
  { workspaceId, flowId }: FlowKey,
): Promise<{ kind: 'published'; version: FlowVersionRow; hints: readonly string[] } | NoFlow | InvalidFlow> {
  return transact(pool, async (tx) => {
    const locked = await lockFlow(tx, { workspaceId, flowId });
    if (locked === null || locked.isArchived) return noFlow(locked);
    // Checked again, not trusted: the rules may have become stricter since the draft was stored.
    const checked = await checkDocument(tx, workspaceId, locked.draft);
    if (checked.kind === 'invalid') return checked;
    const { rows } = await tx.query<FlowVersionRow>({
      name: 'publish-flow',
      text: publishFlowSql,
      values: [workspaceId, newId(), flowId, JSON.stringify(checked.document), usesNetwork(checked.document)],
    });
    const version = rows[0];
    if (version === undefined) throw new Error(`Flow ${flowId} was not published`);
    await setPublished(tx, { workspaceId, flowId }, version.id);
    return { kind: 'published', version, hints: await readHints(tx, { workspaceId, flowId }) };
  });
}

const publishFlowSql = `
  INSERT INTO flow_versions (workspace_id, id, flow_id, number, document, uses_network)
  SELECT $1, $2, $3, COALESCE(max(number), 0) + 1, $4, $5
  FROM flow_versions WHERE workspace_id = $1 AND flow_id = $3
  RETURNING ${versionColumns}`;

/** The flow runs for nobody from now on; conversations under way keep their version. */
export async function unpublishFlow(
  pool: pg.Pool,
  key: FlowKey,
): Promise<{ kind: 'unpublished'; flow: FlowRow } | NoFlow> {
  return transact(pool, async (tx) => {
    const locked = await lockFlow(tx, key);
    if (locked === null || locked.isArchived) return noFlow(locked);
    await setPublished(tx, key, null);
    return { kind: 'unpublished', flow: await requireFlow(tx, key) };
  });
}

/**
 * Makes an older version the one that new conversations run by. It is checked anew: a team or skill that it names may be gone by now.
 * The draft stays as it is.
 */
export async function rollBackFlow(
  pool: pg.Pool,
  { number, ...key }: FlowKey & { number: number },
): Promise<
  | { kind: 'rolled_back'; version: FlowVersionRow; hints: readonly string[] }
  | { kind: 'unknown_version' }
  | NoFlow
  | InvalidFlow
> {
  return transact(pool, async (tx) => {
    const locked = await lockFlow(tx, key);
    if (locked === null || locked.isArchived) return noFlow(locked);
    const version = await getFlowVersion(tx, { ...key, number });
    if (version === null) return { kind: 'unknown_version' };
    const checked = await checkDocument(tx, key.workspaceId, version.document);
    if (checked.kind === 'invalid') return checked;
    await setPublished(tx, key, version.id);
    return { kind: 'rolled_back', version, hints: await readHints(tx, key) };
  });
}

/** Withdraws the flow and puts it away, with its draft and its versions. Archiving it again changes nothing. */
export async function archiveFlow(pool: pg.Pool, key: FlowKey): Promise<{ kind: 'archived'; flow: FlowRow } | NoFlow> {
  return transact(pool, async (tx) => {
    const locked = await lockFlow(tx, key);
    if (locked === null) return noFlow(locked);
    if (!locked.isArchived) {
      await tx.query({
        name: 'archive-flow',
        text: `UPDATE flows SET published_version_id = NULL, archived_at = now(), updated_at = now()
               WHERE workspace_id = $1 AND id = $2`,
        values: [key.workspaceId, key.flowId],
      });
    }
    return { kind: 'archived', flow: await requireFlow(tx, key) };
  });
}

/** A draft again, and the last one in the order: the others may have been put in order since. */
export async function restoreFlow(pool: pg.Pool, key: FlowKey): Promise<{ kind: 'restored'; flow: FlowRow } | NoFlow> {
  return transact(pool, async (tx) => {
    const locked = await lockFlow(tx, key);
    if (locked === null) return noFlow(locked);
    if (locked.isArchived) {
      await tx.query({
        name: 'restore-flow',
        text: `UPDATE flows SET archived_at = NULL, position = DEFAULT, updated_at = now() WHERE workspace_id = $1 AND id = $2`,
        values: [key.workspaceId, key.flowId],
      });
    }
    return { kind: 'restored', flow: await requireFlow(tx, key) };
  });
}

interface LockedFlow {
  readonly draft: unknown;
  readonly isArchived: boolean;
}

/** Whoever changes what is live, or the order, holds the rows of the flows concerned, by id. */
async function lockFlow(tx: Queryable, { workspaceId, flowId }: FlowKey): Promise<LockedFlow | null> {
  const { rows } = await tx.query<LockedFlow>({
    name: 'lock-flow',
    text: `SELECT draft, archived_at IS NOT NULL AS "isArchived" FROM flows WHERE workspace_id = $1 AND id = $2 FOR UPDATE`,
    values: [workspaceId, flowId],
  });
  return rows[0] ?? null;
}

/** @param versionId null: the flow runs for nobody from now on */
async function setPublished(tx: Queryable, { workspaceId, flowId }: FlowKey, versionId: string | null): Promise<void> {
  await tx.query({
    name: 'set-published-version',
    text: 'UPDATE flows SET published_version_id = $3, updated_at = now() WHERE workspace_id = $1 AND id = $2',
    values: [workspaceId, flowId, versionId],
  });
}

export interface OrderFaults {
  readonly kind: 'not_every_flow_once';
  /** Places in the list of ids: named before, and no flow of the workspace that is in use. */
  readonly doubled: readonly number[];
  readonly unknown: readonly number[];
  readonly missing: readonly { readonly id: string; readonly name: string }[];
}

/** Sets the order in which the flows are asked. A flow that somebody makes at the same moment is the last one. */
export async function orderFlows(
  pool: pg.Pool,
  { workspaceId, flowIds }: { workspaceId: string; flowIds: readonly string[] },
): Promise<{ kind: 'ordered'; flows: FlowRow[] } | OrderFaults> {
  return transact(pool, async (tx) => {
    const faults = findOrderFaults(flowIds, await lockFlows(tx, workspaceId));
    if (faults !== null) return faults;
    await tx.query({
      name: 'order-flows',
      text: `UPDATE flows SET position = asked.position
             FROM unnest($2::uuid[]) WITH ORDINALITY AS asked (id, position)
             WHERE flows.workspace_id = $1 AND flows.id = asked.id`,
      values: [workspaceId, flowIds],
    });
    return { kind: 'ordered', flows: await listFlows(tx, { workspaceId, after: null, limit: flowIds.length }) };
  });
}

async function lockFlows(tx: Queryable, workspaceId: string): Promise<{ id: string; name: string }[]> {
  const { rows } = await tx.query<{ id: string; name: string; isArchived: boolean }>({
    name: 'lock-flows',
    text: `SELECT id, name, archived_at IS NOT NULL AS "isArchived" FROM flows WHERE workspace_id = $1 ORDER BY id FOR UPDATE`,
    values: [workspaceId],
  });
  return rows.filter(({ isArchived }) => !isArchived);
}

function findOrderFaults(
  flowIds: readonly string[],
  flows: readonly { readonly id: string; readonly name: string }[],
): OrderFaults | null {
  const known = new Set(flows.map(({ id }) => id));
  const named = new Set(flowIds);
  const places = [...flowIds.keys()];
  const doubled = places.filter((place) => flowIds.indexOf(flowIds[place]!) < place);
  const unknown = places.filter((place) => !known.has(flowIds[place]!));
  const missing = flows.filter(({ id }) => !named.has(id)).map(({ id, name }) => ({ id, name }));
  return doubled.length + unknown.length + missing.length === 0
    ? null
    : { kind: 'not_every_flow_once', doubled, unknown, missing };
}
