/**
 * Enriching, for many conversations at once: each goes on with its flow as far as the flow can without another system. Read unlocked, decided by the
 * interpreter, written under the condition that the conversation is still as it was read: same state, same version, no close requested. A
 * turn that finds otherwise was repeated after it committed, or a person acted first; it changes nothing.
 *
 * Where nothing is said to the contact the write is one statement for all, which needs no transaction around it. It locks its conversations by id; of several
 * it passes over those that somebody else holds, so that nobody waits for another's: the caller finds such a one unchanged and tries it
 * again alone. A question is written with the contact's lock held, in one transaction with the number above which the contact's messages are the answer: a
 * message is either before it, and no answer, or after it, and then it tells the actor (`store_messages`).
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { MAX_ANSWER_MESSAGES } from '../routing/answer.ts';
import { takeTurn, type FlowTurn } from '../routing/flow-interpreter.ts';
import { needsHistory } from '../routing/flow-document.ts';
import type { Phase } from '../routing/phase.ts';
import { readContactHistories } from './contact-histories.ts';
import { runStatement, transact, type Queryable } from './database.ts';
import { lockContact, type ConversationKey } from './locks.ts';
import { sendToContact } from './outgoing.ts';
import { handOnInput, readStepInputs, type FlowStepInput } from './step-inputs.ts';
import { answeredIn, failuresOf, recordOf } from './turn-records.ts';

export interface Enriched {
  /** Null where it was superseded, or somebody else held one of several. */
  readonly phase: Phase | null;
  /** Conditions that could not be decided and counted as false. */
  readonly conditionErrors: number;
}

/** For flows that stay in the house. */
export async function enrichConversations(pool: pg.Pool, keys: readonly ConversationKey[]): Promise<Enriched[]> {
  const inputs = await readEnrichmentInputs(pool, keys);
  const turns = keys.flatMap((key, place) => {
    const input = inputs[place]!;
    return input === null ? [] : [{ key, input, turn: takeLocalTurn(input) }];
  });
  const phases = await writeTurns(pool, turns);
  const outcomes = new Map(
    turns.map(({ key, turn: { conditionErrors } }, place) => [key, { phase: phases[place]!, conditionErrors }]),
  );
  return keys.map((key) => outcomes.get(key) ?? { phase: null, conditionErrors: 0 });
}

/** The same for one. */
export async function enrichConversation(pool: pg.Pool, key: ConversationKey): Promise<Enriched> {
  return (await enrichConversations(pool, [key]))[0]!;
}

/** With what the contacts' earlier conversations tell, where the flow asks for it. */
export async function readEnrichmentInputs(
  pool: pg.Pool,
  keys: readonly ConversationKey[],
): Promise<(FlowStepInput | null)[]> {
  const inputs = await readStepInputs(pool, keys, 'enriching');
  const asking = [...inputs.entries()].flatMap(([place, input]) =>
    input !== null && needsHistory(input.flow) ? [place] : [],
  );
  if (asking.length === 0) return inputs;
  const askingKeys = asking.map((place) => keys[place]!);
  const histories = await readContactHistories(pool, askingKeys);
  for (const [i, place] of asking.entries()) {
    const input = inputs[place]!;
    inputs[place] = { ...input, facts: { ...input.facts, history: histories[i]! } };
  }
  return inputs;
}

function takeLocalTurn({ flow, facts, progress, heard }: FlowStepInput): WritableTurn {
  const turn = takeTurn(flow, facts, progress, heard);
  if (turn.kind === 'request') throw new Error('this flow leaves the house');
  return turn;
}

/** One at whose end there is nothing left to ask another system. */
export type WritableTurn = Exclude<FlowTurn, { kind: 'request' }>;

export interface TakenTurn {
  readonly key: ConversationKey;
  readonly input: FlowStepInput;
  readonly turn: WritableTurn;
}

/** @returns where each conversation is now; null where it was superseded, or somebody else held one of several */
export async function writeTurns(pool: pg.Pool, turns: readonly TakenTurn[]): Promise<(Phase | null)[]> {
  const silent = turns.filter(({ turn }) => isSilent(turn));
  const done = await writeSilentTurns(pool, silent);
  const phases: (Phase | null)[] = [];
  for (const taken of turns) {
    const { key, turn } = taken;
    if (!isSilent(turn)) phases.push(await writeSpokenTurn(pool, taken, { skipHeld: turns.length > 1 }));
    else phases.push(done.has(key.conversationId) ? phaseAfter(taken) : null);
  }
  return phases;
}

const isSilent = (turn: WritableTurn): boolean => turn.kind === 'done' && turn.messages.length === 0;

function phaseAfter({ key: { conversationId }, turn }: TakenTurn): Phase {
  return turn.kind === 'ask'
    ? { kind: 'asking', conversationId, waitMs: turn.timeoutSeconds * 1_000 }
    : { kind: 'routing', conversationId };
}

/** What routing decides by is known here already. */
function handOnRouting({ key: { conversationId }, input, turn: { progress } }: TakenTurn): void {
  const { version, facts } = input;
  const next = { ...input, version: version + 1, progress, facts: { ...facts, fields: progress.fields } };
  handOnInput(conversationId, { state: 'routing', input: { ...next, heard: { kind: 'nothing' } } });
}

async function writeSilentTurns(pool: pg.Pool, turns: readonly TakenTurn[]): Promise<ReadonlySet<string>> {
  if (turns.length === 0) return new Set();
  const isSet = turns.length > 1;
  const { rows } = await runStatement<{ id: string }>(pool, {
    name: isSet ? 'write-enrichments' : 'write-enrichment',
    text: isSet ? writeEnrichmentsSql : writeEnrichmentSql,
    values: [
      turns.map(({ key }) => key.workspaceId),
      turns.map(({ key }) => key.conversationId),
      turns.map(({ input }) => input.version),
      turns.map(({ turn }) => JSON.stringify(turn.progress.fields)),
      turns.map(({ turn }) => JSON.stringify(turn.progress.sources)),
      turns.map(({ turn }) => turn.progress.step),
      turns.map(({ turn }) => turn.progress.gaveUpStep),
      turns.map(() => newId()),
      turns.map(({ turn }) => JSON.stringify(recordOf(turn))),
      turns.map(({ turn }) => failuresOf(turn.trace).length),
      turns.map(({ turn }) => JSON.stringify(answeredIn(turn.trace))),
    ],
  });
  const written = new Set(rows.map(({ id }) => id));
  for (const taken of turns) if (written.has(taken.key.conversationId)) handOnRouting(taken);
  return written;
}

const enrichSql = (locking: string): string => `
  WITH made AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::jsonb[], $5::jsonb[], $6::smallint[], $7::smallint[], $8::uuid[],
                         $9::jsonb[], $10::int[], $11::jsonb[])
      AS made (workspace_id, id, version, fields, field_sources, step, gave_up_step, decision_id, decision, failures, answered)
  ), held AS MATERIALIZED (
    SELECT made.* FROM made JOIN conversations v ON v.workspace_id = made.workspace_id AND v.id = made.id
    WHERE v.version = made.version AND v.state = 'enriching' AND v.close_requested_at IS NULL
    ORDER BY v.id FOR NO KEY UPDATE OF v ${locking}
  ), enriched AS (
    UPDATE conversations v
    SET state = 'routing', fields = held.fields, field_sources = held.field_sources, flow_step = held.step,
        gave_up_step = held.gave_up_step, question_count = 0, awaiting_after_sequence = NULL, answer_until = NULL,
        version = v.version + 1, progressed_at = now()
    FROM held WHERE v.workspace_id = held.workspace_id AND v.id = held.id
    RETURNING v.workspace_id, v.id, v.contact_id, held.decision_id, held.decision, held.failures, held.answered
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT workspace_id, decision_id, id, 'enrichment', decision FROM enriched
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT workspace_id, type, id, contact_id, data
    FROM (
      SELECT workspace_id, 1 AS place, 'conversation.answered' AS type, id, contact_id, answered AS data
      FROM enriched WHERE answered <> 'null'
      UNION ALL
      SELECT workspace_id, 2, 'conversation.enriched', id, contact_id, jsonb_build_object('failures', failures) FROM enriched
    ) event
    ORDER BY id, place
  )
  SELECT id FROM enriched`;

const writeEnrichmentSql = enrichSql('');
const writeEnrichmentsSql = enrichSql('SKIP LOCKED');

/** A turn that sends something to the contact: a question, or what is said at giving up. */
async function writeSpokenTurn(
  pool: pg.Pool,
  taken: TakenTurn,
  { skipHeld }: { readonly skipHeld: boolean },
): Promise<Phase | null> {
  const { key, input, turn } = taken;
  const written = await transact(pool, async (tx) => {
    const contact = await lockContact(tx, key, { skipHeld });
    if (contact === null) return false;
    const hasNews = input.progress.questions > 0 && contact.lastSequence > input.lastSequence;
    if (hasNews && (await hasMoreOfAnswer(tx, taken))) return false;
    const { rowCount } = await tx.query({
      name: 'write-spoken-turn',
      text: writeSpokenTurnSql,
      values: valuesOf(taken, contact.lastSequence + turn.messages.length),
    });
    if (rowCount === 0) return false;
    await sendToContact(
      tx,
      key,
      turn.messages.map(({ text, choices, question }) => ({
        text,
        agentId: null,
        detail: { ...(choices === undefined ? {} : { choices }), ...(question === undefined ? {} : { question }) },
      })),
    );
    return true;
  });
  if (!written) return null;
  if (turn.kind === 'done') handOnRouting(taken);
  return phaseAfter(taken);
}

/**
 * Whether more of the answer has come since it was read: below the number of the next question nobody would ever look at it. That alone
 * refuses a turn: what is above the messages that are one answer is looked at by nobody anyway, what came when its time was over need not be, and a
 * contact that never stops writing must not be waited for without end, asking other systems each time. Asked with the contact's lock held.
 */
async function hasMoreOfAnswer(tx: Queryable, { key, input }: TakenTurn): Promise<boolean> {
  const { rows } = await tx.query({
    name: 'find-more-of-answer',
    text: `SELECT FROM conversations v
           CROSS JOIN LATERAL (
             SELECT m.sequence, m.received_at FROM messages m
             WHERE m.workspace_id = v.workspace_id AND m.conversation_id = v.id AND m.sequence > v.awaiting_after_sequence
               AND m.direction = 'inbound'
             ORDER BY m.sequence LIMIT ${MAX_ANSWER_MESSAGES}
           ) answer
           WHERE v.workspace_id = $1 AND v.id = $2 AND answer.sequence > $3 AND answer.received_at < v.answer_until
           LIMIT 1`,
    values: [key.workspaceId, key.conversationId, input.lastSequence],
  });
  return rows.length > 0;
}

function valuesOf({ key, input, turn }: TakenTurn, lastSequence: number): unknown[] {
  const { progress, trace } = turn;
  const answered = answeredIn(trace);
  const ask = turn.kind === 'ask' ? turn : null;
  const events = [
    ...(answered === null ? [] : [{ type: 'conversation.answered', data: answered }]),
    ask === null
      ? { type: 'conversation.enriched', data: { failures: failuresOf(trace).length } }
      : { type: 'conversation.asked', data: { step: progress.step, number: progress.questions } },
  ];
  return [
    key.workspaceId,
    key.conversationId,
    input.version,
    ask === null ? 'routing' : 'enriching',
    JSON.stringify(progress.fields),
    JSON.stringify(progress.sources),
    progress.step,
    progress.questions,
    progress.gaveUpStep,
    ask === null ? null : lastSequence,
    ask?.timeoutSeconds ?? null,
    ask?.settleSeconds ?? null,
    newId(),
    JSON.stringify(recordOf(turn)),
    events.map(({ type }) => type),
    events.map(({ data }) => JSON.stringify(data)),
  ];
}

// What stands still is looked for by `progressed_at`: a conversation that waits for its contact counts from when its question gives up.
const writeSpokenTurnSql = `
  WITH turned AS (
    UPDATE conversations v
    SET state = $4, fields = $5, field_sources = $6, flow_step = $7, question_count = $8, gave_up_step = $9,
        awaiting_after_sequence = $10, answer_until = until, answer_settle_seconds = $12,
        version = v.version + 1, progressed_at = coalesce(until, now())
    FROM (SELECT clock_timestamp() + $11::int * interval '1 s' AS until) wait
    WHERE v.workspace_id = $1 AND v.id = $2 AND v.version = $3 AND v.state = 'enriching' AND v.close_requested_at IS NULL
    RETURNING v.contact_id
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail) SELECT $1, $13, $2, 'enrichment', $14 FROM turned
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, event.type, $2, turned.contact_id, event.data
    FROM turned CROSS JOIN unnest($15::text[], $16::jsonb[]) WITH ORDINALITY AS event (type, data, place)
    ORDER BY event.place
  )
  SELECT FROM turned`;
