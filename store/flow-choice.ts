import type { RoutingFacts } from '../routing/facts.ts';
import { usesNetwork } from '../routing/flow-document.ts';
import type { FlowDocument } from '../routing/flow-schema.ts';
import { decideTrigger } from '../routing/route.ts';
import type { Queryable } from './database.ts';

export type FlowChoice = {
  /** Triggers that could not be evaluated and counted as false, of the versions that were asked. */
  readonly triggerErrors: readonly TriggerError[];
} & (
  | {
      readonly kind: 'flow';
      readonly version: PublishedVersion;
      readonly hasEnrichment: boolean;
      readonly usesNetwork: boolean;
    }
  /** No published flow's trigger matched, which is no failure; else `failure` tells what was. */
  | { readonly kind: 'default_team'; readonly failure: string | null }
);

export interface TriggerError {
  readonly flowVersionId: string;
  readonly error: string;
}

/**
 * The first of these versions whose trigger matches. A version that this code cannot read must not keep the workspace's contacts waiting:
 * it is passed over.
 */
export function chooseFlow(versions: readonly PublishedVersion[], facts: RoutingFacts): FlowChoice {
  let failure: string | null = null;
  const triggerErrors: TriggerError[] = [];
  for (const version of versions) {
    const { id, document: flow } = version;
    try {
      const { value, error } = decideTrigger(flow, facts);
      if (error !== undefined) triggerErrors.push({ flowVersionId: id, error });
      if (value) {
        return {
          kind: 'flow',
          version,
          hasEnrichment: flow.enrichment.length > 0,
          usesNetwork: usesNetwork(flow),
          triggerErrors,
        };
      }
    } catch {
      failure ??= `the published version ${id} cannot be read`;
    }
  }
  return { kind: 'default_team', failure, triggerErrors };
}

export interface PublishedVersion {
  readonly id: string;
  readonly number: number;
  readonly document: FlowDocument;
}

export interface VersionKey {
  readonly workspaceId: string;
  readonly versionId: string;
}

/** Published versions by id, remembered: they never change. All that are not known yet come with one statement. */
export async function readFlowVersions(
  db: Queryable,
  keys: readonly VersionKey[],
): Promise<ReadonlyMap<string, PublishedVersion>> {
  const found = new Map<string, PublishedVersion>();
  const unknown = new Map<string, string>();
  for (const { workspaceId, versionId } of keys) {
    const version = remembered.get(versionId);
    if (version === undefined) unknown.set(versionId, workspaceId);
    else found.set(versionId, version);
  }
  if (unknown.size === 0) return found;
  const { rows } = await db.query<PublishedVersion>({
    name: 'read-flow-versions',
    text: `SELECT id, number, document FROM flow_versions
           JOIN unnest($1::uuid[], $2::uuid[]) AS asked (workspace_id, id) USING (workspace_id, id)`,
    values: [[...unknown.values()], [...unknown.keys()]],
  });
  for (const version of rows) {
    found.set(version.id, version);
    if (remembered.size >= maxRemembered) remembered.delete(remembered.keys().next().value!);
    remembered.set(version.id, version);
  }
  return found;
}

const maxRemembered = 500;
const remembered = new Map<string, PublishedVersion>();
