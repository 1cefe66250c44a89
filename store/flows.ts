/**
 * Flows: a draft that is edited, and versions that never change once published. A conversation names the version it runs by,
 * so that an edit never reaches into one that is under way.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { stepsLeaveTheHouse, validateFlow } from '../routing/flow-document.ts';
import type { FlowDocument, FlowFault } from '../routing/flow-document.ts';
import { transact } from './database.ts';
import type { Queryable } from './database.ts';

export interface FlowRow {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly document: FlowDocument;
  readonly publishedVersionId: string | null;
  readonly publishedNumber: number | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface FlowVersionRow {
  readonly id: string;
  readonly flowId: string;
  readonly number: number;
  readonly document: FlowDocument;
  readonly publishedAt: Date;
}

export interface InvalidFlow {
  readonly kind: 'invalid';
  readonly faults: readonly FlowFault[];
}

interface FlowKey {
  readonly workspaceId: string;
  readonly flowId: string;
}

export async function createFlow(
  db: Queryable,
  options: { workspaceId: string; name: string; description: string; document: unknown },
): Promise<{ kind: 'created'; flow: FlowRow } | InvalidFlow> {
  const { workspaceId, name, description, document } = options;
  const checked = await checkDocument(db, workspaceId, document);
  if (checked.kind === 'invalid') return checked;
  const id = newId();
  await db.query({
    name: 'create-flow',
    text: 'INSERT INTO flows (workspace_id, id, name, description, draft) VALUES ($1, $2, $3, $4, $5)',
    values: [workspaceId, id, name, description, JSON.stringify(checked.document)],
  });
  return { kind: 'created', flow: await requireFlow(db, { workspaceId, flowId: id }) };
}

/** Changes the draft; what is published stays as it is. */
export async function updateFlow(
  db: Queryable,
  options: FlowKey & { name?: string; description?: string; document?: unknown },
): Promise<{ kind: 'updated'; flow: FlowRow } | { kind: 'not_found' } | InvalidFlow> {
  const { workspaceId, flowId, name, description, document } = options;
  let draft: FlowDocument | null = null;
  if (document !== undefined) {
    if ((await getFlow(db, { workspaceId, flowId })) === null) return { kind: 'not_found' };
    const checked = await checkDocument(db, workspaceId, document);
    if (checked.kind === 'invalid') return checked;
    draft = checked.document;
  }
  const { rowCount } = await db.query({
    name: 'update-flow',
    text: updateFlowSql,
    values: [workspaceId, flowId, name ?? null, description ?? null, draft === null ? null : JSON.stringify(draft)],
  });
  if (rowCount === 0) return { kind: 'not_found' };
  return { kind: 'updated', flow: await requireFlow(db, { workspaceId, flowId }) };
}

/**
 * Makes the draft the next version and the one that new conversations run by. The flow's row is locked, so that two who
 * publish at once get two numbers and the higher one stands.
 */
export async function publishFlow(
  pool: pg.Pool,
  { workspaceId, flowId }: FlowKey,
): Promise<{ kind: 'published'; version: FlowVersionRow } | { kind: 'not_found' } | InvalidFlow> {
  return transact(pool, async (tx) => {
    const { rows: drafts } = await tx.query<{ draft: unknown }>({
      name: 'lock-flow',
      text: 'SELECT draft FROM flows WHERE workspace_id = $1 AND id = $2 FOR UPDATE',
      values: [workspaceId, flowId],
    });
    const locked = drafts[0];
    if (locked === undefined) return { kind: 'not_found' };
    // Checked again, not trusted: the rules may have become stricter since the draft was stored.
    const checked = await checkDocument(tx, workspaceId, locked.draft);
    if (checked.kind === 'invalid') return checked;
    const { rows } = await tx.query<FlowVersionRow>({
      name: 'publish-flow',
      text: publishFlowSql,
      values: [workspaceId, newId(), flowId, JSON.stringify(checked.document), stepsLeaveTheHouse(checked.document)],
    });
    const version = rows[0];
    if (version === undefined) throw new Error(`Flow ${flowId} was not published`);
    await tx.query({
      name: 'set-published-version',
      text: 'UPDATE flows SET published_version_id = $3, updated_at = now() WHERE workspace_id = $1 AND id = $2',
      values: [workspaceId, flowId, version.id],
    });
    return { kind: 'published', version };
  });
}

export async function getFlow(db: Queryable, { workspaceId, flowId }: FlowKey): Promise<FlowRow | null> {
  const { rows } = await db.query<FlowRow>({
    name: 'get-flow',
    text: `${selectFlowSql} AND flow.id = $2`,
    values: [workspaceId, flowId],
  });
  return rows[0] ?? null;
}

/** In the order in which they were made; `after` is the id of the last one of the page before. */
export async function listFlows(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<FlowRow[]> {
  const { rows } = await db.query<FlowRow>({
    name: after === null ? 'list-flows' : 'list-flows-after',
    text: `${selectFlowSql} ${after === null ? '' : 'AND flow.id > $3'} ORDER BY flow.id LIMIT $2`,
    values: after === null ? [workspaceId, limit] : [workspaceId, limit, after],
  });
  return rows;
}

/** Newest first; `beforeNumber` is the number of the last one of the page before. */
export async function listFlowVersions(
  db: Queryable,
  options: FlowKey & { beforeNumber: number | null; limit: number },
): Promise<FlowVersionRow[]> {
  const { workspaceId, flowId, beforeNumber, limit } = options;
  const { rows } = await db.query<FlowVersionRow>({
    name: beforeNumber === null ? 'list-flow-versions' : 'list-flow-versions-before',
    text: `
      SELECT ${versionColumns} FROM flow_versions
      WHERE workspace_id = $1 AND flow_id = $2 ${beforeNumber === null ? '' : 'AND number < $4'}
      ORDER BY number DESC LIMIT $3`,
    values: [workspaceId, flowId, limit, ...(beforeNumber === null ? [] : [beforeNumber])],
  });
  return rows;
}

async function checkDocument(
  db: Queryable,
  workspaceId: string,
  document: unknown,
): Promise<{ kind: 'valid'; document: FlowDocument } | InvalidFlow> {
  const { rows } = await db.query<{ teamIds: string[]; skills: string[] }>({
    name: 'list-names-for-flows',
    text: `SELECT ARRAY(SELECT id FROM teams WHERE workspace_id = $1) AS "teamIds",
                  ARRAY(SELECT DISTINCT skill FROM agents CROSS JOIN LATERAL jsonb_object_keys(skills) AS skill
                        WHERE workspace_id = $1 AND skill ~ '[^[:space:]]' ORDER BY skill) AS skills`,
    values: [workspaceId],
  });
  const { teamIds, skills } = rows[0]!;
  const validated = validateFlow(document, { teamIds: new Set(teamIds), skills: new Set(skills) });
  return validated.ok ? { kind: 'valid', document: validated.flow } : { kind: 'invalid', faults: validated.faults };
}

async function requireFlow(db: Queryable, key: FlowKey): Promise<FlowRow> {
  const flow = await getFlow(db, key);
  if (flow === null) throw new Error(`Flow ${key.flowId} is gone`);
  return flow;
}

const selectFlowSql = `
  SELECT flow.id, flow.name, flow.description, flow.draft AS document,
    flow.published_version_id AS "publishedVersionId", version.number AS "publishedNumber",
    flow.created_at AS "createdAt", flow.updated_at AS "updatedAt"
  FROM flows AS flow
  LEFT JOIN flow_versions AS version
    ON version.workspace_id = flow.workspace_id AND version.id = flow.published_version_id
  WHERE flow.workspace_id = $1`;

const updateFlowSql = `
  UPDATE flows
  SET name = COALESCE($3, name), description = COALESCE($4, description), draft = COALESCE($5::jsonb, draft),
    updated_at = now()
  WHERE workspace_id = $1 AND id = $2`;

const versionColumns = 'id, flow_id AS "flowId", number, document, published_at AS "publishedAt"';

const publishFlowSql = `
  INSERT INTO flow_versions (workspace_id, id, flow_id, number, document, uses_network)
  SELECT $1, $2, $3, COALESCE(max(number), 0) + 1, $4, $5
  FROM flow_versions WHERE workspace_id = $1 AND flow_id = $3
  RETURNING ${versionColumns}`;
