/**
 * Flows: a draft that is edited, and versions that never change once published. A conversation names the version it runs by,
 * so that an edit never reaches into one that is under way.
 */
import { newId } from '../platform/id.ts';
import { validateFlow } from '../routing/flow-document.ts';
import type { FlowFault } from '../routing/flow-faults.ts';
import type { FlowDocument } from '../routing/flow-schema.ts';
import type { Queryable } from './database.ts';

export interface FlowRow {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly document: FlowDocument;
  /** Its place among the flows that are not archived, from 1; null once it is archived. */
  readonly position: number | null;
  readonly archivedAt: Date | null;
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

/** There is no such flow, or it is archived and has to be restored before it can be changed. */
export interface NoFlow {
  readonly kind: 'not_found' | 'archived';
}

export interface FlowKey {
  readonly workspaceId: string;
  readonly flowId: string;
}

/** It is the last one in the order. */
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
): Promise<{ kind: 'updated'; flow: FlowRow } | NoFlow | InvalidFlow> {
  const { workspaceId, flowId, name, description, document } = options;
  let draft: FlowDocument | null = null;
  if (document !== undefined) {
    const flow = await getFlow(db, { workspaceId, flowId });
    if (flow === null || flow.archivedAt !== null) return noFlow(flow);
    const checked = await checkDocument(db, workspaceId, document);
    if (checked.kind === 'invalid') return checked;
    draft = checked.document;
  }
  const { rowCount } = await db.query({
    name: 'update-flow',
    text: updateFlowSql,
    values: [workspaceId, flowId, name ?? null, description ?? null, draft === null ? null : JSON.stringify(draft)],
  });
  const flow = await getFlow(db, { workspaceId, flowId });
  return rowCount === 0 || flow === null ? noFlow(flow) : { kind: 'updated', flow };
}

export async function getFlow(db: Queryable, { workspaceId, flowId }: FlowKey): Promise<FlowRow | null> {
  const { rows } = await db.query<FlowRow>({
    name: 'get-flow',
    text: `${selectFlowSql} AND flow.id = $2`,
    values: [workspaceId, flowId],
  });
  return rows[0] ?? null;
}

/**
 * In the order in which they are asked; `after` is the id of the last one of the page before.
 * @param isArchived true: those that are archived, and only those
 */
export async function listFlows(
  db: Queryable,
  options: { workspaceId: string; after: string | null; limit: number; isArchived?: boolean },
): Promise<FlowRow[]> {
  const { workspaceId, after, limit, isArchived = false } = options;
  const { rows } = await db.query<FlowRow>({
    name: after === null ? 'list-flows' : 'list-flows-after',
    text: `${selectFlowSql} AND (flow.archived_at IS NOT NULL) = $3
      ${after === null ? '' : 'AND (flow.position, flow.id) > (SELECT position, id FROM flows WHERE workspace_id = $1 AND id = $4)'}
      ORDER BY flow.position, flow.id LIMIT $2`,
    values: [workspaceId, limit, isArchived, ...(after === null ? [] : [after])],
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

/** A published version by its number. */
export async function getFlowVersion(
  db: Queryable,
  { workspaceId, flowId, number }: FlowKey & { number: number },
): Promise<FlowVersionRow | null> {
  const { rows } = await db.query<FlowVersionRow>({
    name: 'get-flow-version',
    text: `SELECT ${versionColumns} FROM flow_versions WHERE workspace_id = $1 AND flow_id = $2 AND number = $3`,
    values: [workspaceId, flowId, number],
  });
  return rows[0] ?? null;
}

/** @returns null where there is no such version, as the live one of a flow that is not live */
export async function getFlowDocument(
  db: Queryable,
  { workspaceId, flow, version }: { workspaceId: string; flow: FlowRow; version: FlowVersionName },
): Promise<FlowDocument | null> {
  if (version === 'draft') return flow.document;
  const number = version === 'live' ? flow.publishedNumber : version;
  if (number === null) return null;
  return (await getFlowVersion(db, { workspaceId, flowId: flow.id, number }))?.document ?? null;
}

/** A version by its number, or by what it is now. */
export type FlowVersionName = number | 'draft' | 'live';

/** Every fault of a document as seen from this workspace, or the document with its defaults. */
export async function checkDocument(
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

export const noFlow = (found: unknown): NoFlow => ({ kind: found === null ? 'not_found' : 'archived' });

export async function requireFlow(db: Queryable, key: FlowKey): Promise<FlowRow> {
  const flow = await getFlow(db, key);
  if (flow === null) throw new Error(`Flow ${key.flowId} is gone`);
  return flow;
}

const selectFlowSql = `
  SELECT flow.id, flow.name, flow.description, flow.draft AS document,
    flow.published_version_id AS "publishedVersionId", version.number AS "publishedNumber",
    CASE WHEN flow.archived_at IS NULL THEN (
      SELECT count(*)::int FROM flows other
      WHERE other.workspace_id = flow.workspace_id AND other.archived_at IS NULL
        AND (other.position, other.id) <= (flow.position, flow.id)
    ) END AS position, flow.archived_at AS "archivedAt",
    flow.created_at AS "createdAt", flow.updated_at AS "updatedAt"
  FROM flows AS flow
  LEFT JOIN flow_versions AS version
    ON version.workspace_id = flow.workspace_id AND version.id = flow.published_version_id
  WHERE flow.workspace_id = $1`;

const updateFlowSql = `
  UPDATE flows
  SET name = COALESCE($3, name), description = COALESCE($4, description), draft = COALESCE($5::jsonb, draft),
    updated_at = now()
  WHERE workspace_id = $1 AND id = $2 AND archived_at IS NULL`;

export const versionColumns = 'id, flow_id AS "flowId", number, document, published_at AS "publishedAt"';
