/**
 * What a step of a flow decides by: the flow's version, the facts, how far the flow has come and what it has heard since. Read for many
 * conversations at once, or handed on by the step before.
 *
 * Handing on: the opening has read the very facts by which the flow's branches decide a millisecond later, and reading them again took a third of
 * the CPU time of opening and routing. It is only a shortcut within this process: bounded, short-lived, and each step's write checks the
 * conversation's version, so a stale entry makes it look again, never do something wrong.
 */
import { MAX_ANSWER_MESSAGES } from '../routing/answer.ts';
import type { Source } from '../routing/conversation.ts';
import { joinMessageText, MAX_FIRST_MESSAGES, type Fields, type RoutingFacts } from '../routing/facts.ts';
import type { Heard } from '../routing/flow-interpreter.ts';
import type { FieldSources, FlowProgress } from '../routing/flow-progress.ts';
import type { FlowDocument } from '../routing/flow-schema.ts';
import type { Queryable } from './database.ts';
import { readFlowVersions } from './flow-choice.ts';
import type { ConversationKey } from './locks.ts';
import { waitMsSql } from './phases.ts';

export interface FlowStepInput {
  /** Of the conversation as it was read. */
  readonly version: number;
  readonly flow: FlowDocument;
  readonly flowVersionId: string;
  readonly flowVersionNumber: number;
  /** Its fields are those of `progress`. */
  readonly facts: RoutingFacts;
  readonly progress: FlowProgress;
  readonly heard: Heard;
  /** Of the contact when this was read: what has come since is no part of what was heard. */
  readonly lastSequence: number;
}

/**
 * What a step needs, in the order of the keys; null where the conversation is not in this state any more, is being closed, or waits for its
 * contact's answer. What the step before has handed on is not read; its write finds out whether that is still true.
 */
export async function readStepInputs(
  db: Queryable,
  keys: readonly ConversationKey[],
  state: 'enriching' | 'routing',
): Promise<(FlowStepInput | null)[]> {
  const inputs: (FlowStepInput | null)[] = keys.map(({ conversationId }) => takeInput(conversationId, state) ?? null);
  const places = [...keys.keys()].filter((place) => inputs[place] === null);
  if (places.length === 0) return inputs;
  const { rows } = await db.query<StepRow>({
    name: 'read-step-inputs',
    text: readStepInputsSql,
    values: [
      places.map((place) => keys[place]!.workspaceId),
      places.map((place) => keys[place]!.conversationId),
      places,
      state,
    ],
  });
  const versionKeys = rows.map(({ workspaceId, flowVersionId: versionId }) => ({ workspaceId, versionId }));
  const versions = await readFlowVersions(db, versionKeys);
  for (const row of rows) {
    const { id: flowVersionId, number: flowVersionNumber, document: flow } = versions.get(row.flowVersionId)!;
    const { version, fields, step, questions, sources, gaveUpStep, answers, lastSequence } = row;
    inputs[row.place] = {
      version,
      flow,
      flowVersionId,
      flowVersionNumber,
      facts: factsOf(keys[row.place]!.contactId, row),
      progress: { step, fields, sources, questions, gaveUpStep },
      heard: heardIn(answers),
      lastSequence,
    };
  }
  return inputs;
}

function factsOf(contactId: string, row: StepRow): RoutingFacts {
  return {
    nowMs: row.nowMs,
    conversation: { source: row.source, priority: row.priority },
    contact: { id: contactId, name: row.name, attributes: row.attributes },
    channel: { key: row.channelKey ?? '', name: row.channelName ?? '' },
    message: { text: joinMessageText(row.texts ?? []) },
    fields: row.fields,
  };
}

/** A question whose turn has come without an answer has timed out. One of attachments only is an answer without text. */
function heardIn(answers: readonly (string | null)[] | null): Heard {
  if (answers === null) return { kind: 'nothing' };
  if (answers.length === 0) return { kind: 'timeout' };
  return { kind: 'answer', texts: answers.filter((text) => text !== null) };
}

const readStepInputsSql = `
  SELECT asked.place, v.workspace_id AS "workspaceId", v.version, v.source, v.priority, v.fields, v.field_sources AS sources,
         v.flow_step AS step, v.question_count AS questions, v.gave_up_step AS "gaveUpStep",
         v.flow_version_id AS "flowVersionId", c.last_sequence AS "lastSequence", c.name, c.attributes, first.texts,
         ch.key AS "channelKey", ch.name AS "channelName", extract(epoch FROM clock_timestamp())::float8 * 1000 AS "nowMs",
         CASE WHEN v.awaiting_after_sequence IS NOT NULL THEN ARRAY(
           SELECT m.text FROM messages m
           WHERE m.workspace_id = v.workspace_id AND m.conversation_id = v.id AND m.sequence > v.awaiting_after_sequence
             AND m.direction = 'inbound'
           ORDER BY m.sequence LIMIT ${MAX_ANSWER_MESSAGES}
         ) END AS answers
  FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS asked (workspace_id, id, place)
  JOIN conversations v ON v.workspace_id = asked.workspace_id AND v.id = asked.id
  JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id
  CROSS JOIN LATERAL (
    SELECT array_agg(m.text ORDER BY m.sequence) AS texts, (array_agg(m.channel_id ORDER BY m.sequence))[1] AS channel_id
    FROM (SELECT text, sequence, channel_id FROM messages
          WHERE workspace_id = v.workspace_id AND conversation_id = v.id AND direction = 'inbound'
          ORDER BY sequence LIMIT ${MAX_FIRST_MESSAGES}) m
  ) first
  LEFT JOIN channels ch ON ch.workspace_id = v.workspace_id AND ch.id = first.channel_id
  WHERE v.state = $4 AND v.routed_at IS NULL AND v.close_requested_at IS NULL AND v.flow_version_id IS NOT NULL
    AND coalesce(${waitMsSql}, 0) <= 0`;

interface StepRow {
  place: number;
  workspaceId: string;
  version: number;
  source: Source;
  priority: number;
  fields: Fields;
  sources: FieldSources;
  step: number;
  questions: number;
  gaveUpStep: number | null;
  flowVersionId: string;
  lastSequence: number;
  name: string | null;
  attributes: Record<string, unknown>;
  texts: (string | null)[] | null;
  channelKey: string | null;
  channelName: string | null;
  nowMs: number;
  answers: (string | null)[] | null;
}

interface HandedOn {
  readonly state: 'enriching' | 'routing';
  readonly input: FlowStepInput;
}

export function handOnInput(conversationId: string, next: HandedOn): void {
  inputs.delete(conversationId);
  if (inputs.size >= maxInputs) inputs.delete(inputs.keys().next().value!);
  inputs.set(conversationId, { ...next, handedOnMs: performance.now() });
}

/** Once: who has to ask again finds the rows changed, and reads them. */
function takeInput(conversationId: string, state: HandedOn['state']): FlowStepInput | undefined {
  const found = inputs.get(conversationId);
  if (found === undefined) return undefined;
  inputs.delete(conversationId);
  return found.state === state && performance.now() - found.handedOnMs <= maxAgeMs ? found.input : undefined;
}

/** Texts of at most 4 KB each and what a contact's attributes hold: some megabytes. */
const maxInputs = 1_000;
/** What the contact has added since opening is no part of it: after so long, look again. */
const maxAgeMs = 1_000;
const inputs = new Map<string, HandedOn & { readonly handedOnMs: number }>();
