/** What the opening of a conversation decides by: where a contact stands, and what it wrote that belongs to no conversation yet. */
import { joinMessageText, MAX_FIRST_MESSAGES, type RoutingFacts } from '../routing/facts.ts';
import type { Phase } from '../routing/phase.ts';
import type { Queryable } from './database.ts';
import type { ContactKey } from './locks.ts';
import { joinPhase, phaseColumns, phaseOfRow, type PhaseRow } from './phases.ts';

export interface ContactLook {
  readonly phase: Phase;
  /** Null unless messages wait and no conversation is open. */
  readonly pending: Pending | null;
}

export interface Pending {
  /** What the trigger looks at: the first messages that wait, and who wrote them. */
  readonly facts: RoutingFacts;
  /** Where the first of them came in, and what a conversation there costs. */
  readonly channel: string;
  readonly units: number;
  /** Of the contact. As long as it is the same, no message has come. */
  readonly lastSequence: number;
  readonly defaultTeamId: string;
  /** The flow versions that are live, in the order in which they are asked. */
  readonly versionIds: readonly string[];
}

/**
 * One statement for any number of contacts. What is live is read in it too, once for each workspace, so that no round trip would be spared by
 * keeping a copy, and what is published decides the very next opening in every process. The documents are kept: they never change.
 */
export async function lookAtContacts(db: Queryable, contacts: readonly ContactKey[]): Promise<ContactLook[]> {
  const { rows } = await db.query<LookRow>({
    name: 'look-at-contacts',
    text: lookSql,
    values: [
      contacts.map(({ workspaceId }) => workspaceId),
      contacts.map(({ contactId }) => contactId),
      [...new Set(contacts.map(({ workspaceId }) => workspaceId))],
    ],
  });
  return rows.map((row, index) => {
    const pending = pendingOf(contacts[index]!, row);
    return { phase: phaseOfRow(row, pending !== null), pending };
  });
}

// As in `read-step-input`, ten messages at most: the text that conditions see is short.
const lookSql = `
  WITH home AS MATERIALIZED (
    SELECT w.id, w.default_team_id,
           ARRAY(SELECT f.published_version_id FROM flows f
                 WHERE f.workspace_id = w.id AND f.published_version_id IS NOT NULL ORDER BY f.position, f.id) AS version_ids
    FROM workspaces w WHERE w.id = ANY($3::uuid[])
  )
  SELECT ${phaseColumns}, c.last_sequence AS "lastSequence", c.name, c.attributes, first.texts,
         ch.key AS "channelKey", ch.name AS "channelName", ch.units,
         home.default_team_id AS "defaultTeamId", home.version_ids AS "versionIds",
         extract(epoch FROM now())::float8 * 1000 AS "nowMs"
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS asked (workspace_id, contact_id, place)
  ${joinPhase}
  LEFT JOIN LATERAL (
    SELECT array_agg(m.text ORDER BY m.sequence) AS texts, (array_agg(m.channel_id ORDER BY m.sequence))[1] AS channel_id
    FROM (SELECT text, sequence, channel_id FROM messages
          WHERE workspace_id = asked.workspace_id AND contact_id = asked.contact_id AND conversation_id IS NULL
            AND c.open_conversation_id IS NULL
          ORDER BY sequence LIMIT ${MAX_FIRST_MESSAGES}) m
  ) first ON true
  LEFT JOIN channels ch ON ch.workspace_id = asked.workspace_id AND ch.id = first.channel_id
  LEFT JOIN home ON home.id = asked.workspace_id
  ORDER BY asked.place`;

interface LookRow extends PhaseRow {
  readonly lastSequence: number | null;
  readonly name: string | null;
  readonly attributes: Record<string, unknown> | null;
  readonly texts: readonly (string | null)[] | null;
  readonly channelKey: string | null;
  readonly channelName: string | null;
  readonly units: number | null;
  readonly defaultTeamId: string | null;
  readonly versionIds: readonly string[] | null;
  readonly nowMs: number;
}

function pendingOf({ contactId }: ContactKey, row: LookRow): Pending | null {
  if (row.id !== null || row.texts === null) return null;
  const channel = { key: row.channelKey!, name: row.channelName! };
  return {
    facts: {
      nowMs: row.nowMs,
      conversation: { source: 'contact', priority: 0 },
      contact: { id: contactId, name: row.name, attributes: row.attributes! },
      channel,
      message: { text: joinMessageText(row.texts) },
      fields: {},
    },
    channel: channel.key,
    units: row.units!,
    lastSequence: row.lastSequence!,
    defaultTeamId: row.defaultTeamId!,
    versionIds: row.versionIds!,
  };
}
