import type { RoutingFacts } from '../routing/facts.ts';
import { stepsLeaveTheHouse, type FlowDocument } from '../routing/flow-document.ts';
import { decideTrigger } from '../routing/route.ts';
import type { Queryable } from './database.ts';
import { readDefaultTeam } from './teams.ts';

export type FlowChoice =
  | {
      readonly kind: 'flow';
      readonly versionId: string;
      readonly hasEnrichment: boolean;
      readonly usesNetwork: boolean;
    }
  /** No published flow's trigger matched, which is no failure; else `failure` tells what was. */
  | {
      readonly kind: 'default_team';
      readonly teamId: string;
      readonly failure: string | null;
      /** Triggers that could not be evaluated and counted as false. */
      readonly triggerErrors: readonly { readonly flowVersionId: string; readonly error: string }[];
    };

/**
 * The first published flow, oldest first, whose trigger matches. A version that this code cannot read must not keep the workspace's
 * contacts waiting: it is passed over.
 */
export async function chooseFlow(tx: Queryable, workspaceId: string, facts: RoutingFacts): Promise<FlowChoice> {
  const { rows } = await tx.query<{ id: string }>({
    name: 'list-published-versions',
    text: `SELECT published_version_id AS id FROM flows
           WHERE workspace_id = $1 AND published_version_id IS NOT NULL ORDER BY id`,
    values: [workspaceId],
  });
  let failure: string | null = null;
  const triggerErrors: { flowVersionId: string; error: string }[] = [];
  for (const { id } of rows) {
    const { document: flow } = await readFlowVersion(tx, workspaceId, id);
    try {
      const { value, error } = decideTrigger(flow, facts);
      if (error !== undefined) triggerErrors.push({ flowVersionId: id, error });
      if (value) {
        return {
          kind: 'flow',
          versionId: id,
          hasEnrichment: flow.enrichment.length > 0,
          usesNetwork: stepsLeaveTheHouse(flow),
        };
      }
    } catch {
      failure ??= `the published version ${id} cannot be read`;
    }
  }
  return { kind: 'default_team', teamId: await readDefaultTeam(tx, workspaceId), failure, triggerErrors };
}

export interface PublishedVersion {
  readonly id: string;
  readonly number: number;
  readonly document: FlowDocument;
}

/** A published version, remembered: it never changes. */
export async function readFlowVersion(
  db: Queryable,
  workspaceId: string,
  versionId: string,
): Promise<PublishedVersion> {
  const known = versions.get(versionId);
  if (known !== undefined) return known;
  const { rows } = await db.query<PublishedVersion>({
    name: 'read-flow-version',
    text: 'SELECT id, number, document FROM flow_versions WHERE workspace_id = $1 AND id = $2',
    values: [workspaceId, versionId],
  });
  const version = rows[0]!;
  if (versions.size >= maxVersions) versions.delete(versions.keys().next().value!);
  versions.set(versionId, version);
  return version;
}

const maxVersions = 500;
const versions = new Map<string, PublishedVersion>();
