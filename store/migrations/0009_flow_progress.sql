-- Up Migration

SET LOCAL lock_timeout = '5s';

-- How far a conversation's flow has come (routing/flow-progress.ts). All have defaults, so no row is rewritten.
ALTER TABLE conversations
  -- Where each of `fields` comes from.
  ADD COLUMN field_sources jsonb NOT NULL DEFAULT '{}',
  -- Position of the enrichment step that is next.
  ADD COLUMN flow_step smallint NOT NULL DEFAULT 0,
  -- How many questions the `ask` step there has sent.
  ADD COLUMN question_count smallint NOT NULL DEFAULT 0,
  -- The `ask` step that gave up towards a team or a close.
  ADD COLUMN gave_up_step smallint,
  -- Set while a question waits for its answer: what the contact writes above this number is the answer.
  ADD COLUMN awaiting_after_sequence bigint,
  -- When the question gives up waiting, and how long the contact must have been silent for its answer to be complete.
  ADD COLUMN answer_until timestamptz,
  ADD COLUMN answer_settle_seconds smallint,
  -- Not validated, which would read the table: no row from before waits.
  ADD CONSTRAINT conversations_awaiting_check
    CHECK (awaiting_after_sequence IS NULL OR (answer_until IS NOT NULL AND answer_settle_seconds IS NOT NULL)) NOT VALID;

-- As in 0008, and a message to a conversation whose flow waits for an answer tells the actor. The contact's lock is held before the
-- conversation is read, so it is seen whenever the question was committed before.
CREATE OR REPLACE FUNCTION store_messages(
  workspace_ids uuid[], message_ids uuid[], contact_numbers int[], offsets_in_contact int[], channel_ids uuid[], external_ids text[],
  texts text[], attachment_lists jsonb[], sent_ats timestamptz[],
  touched_workspace_ids uuid[], touched_ids uuid[], touched_counts int[], names text[], attribute_sets jsonb[]
) RETURNS TABLE (sequence_number bigint, attached_to uuid)
LANGUAGE plpgsql
-- Contacts are then locked in the order in which they are given, and everything is found by its key, also by plans made while tables were small. One by
-- one in a loop they would be for certain, at 20 % more for 500.
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
AS $$
DECLARE
  last_sequences bigint[];
  open_ids uuid[];
  nothing CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
  now_under_lock timestamptz;
BEGIN
  -- Locks and writes at once: read, locked and written one after the other, contacts were a quarter of the cost. Nulls would make looking into the
  -- array take as long as it is.
  WITH numbered AS (
    UPDATE contacts c
    SET last_sequence = c.last_sequence + t.count,
        name = coalesce(t.name, c.name),
        attributes = c.attributes || t.attributes
    FROM unnest(touched_workspace_ids, touched_ids, touched_counts, names, attribute_sets) WITH ORDINALITY
         AS t (workspace_id, id, count, name, attributes, position)
    WHERE c.workspace_id = t.workspace_id AND c.id = t.id
    RETURNING t.position, c.last_sequence - t.count AS last_sequence, c.open_conversation_id
  )
  SELECT array_agg(n.last_sequence ORDER BY n.position),
         array_agg(coalesce(n.open_conversation_id, nothing) ORDER BY n.position)
  INTO last_sequences, open_ids
  FROM numbered n;
  -- One whose insertion, for which no disk was waited, was undone by a crash.
  IF cardinality(last_sequences) IS DISTINCT FROM cardinality(touched_ids) THEN
    RAISE EXCEPTION 'a contact is gone' USING ERRCODE = 'serialization_failure';
  END IF;

  -- After whatever happened under the lock before: a message is older than the quiet of its conversation exactly if it did not find it quiet.
  now_under_lock := clock_timestamp();

  RETURN QUERY
  -- OFFSET 0 keeps the lookup by the primary key. As a plain join it was planned, before there were statistics, as all open
  -- conversations times the batch: 789 ms for 500 of 2,000, where this takes 2 ms.
  WITH message AS MATERIALIZED (
    SELECT m.*, touched_ids[m.contact_number] AS contact_id,
           last_sequences[m.contact_number] + m.offset_in_contact AS sequence, open.id AS conversation_id, open.is_quiet,
           open.is_awaited
    FROM unnest(workspace_ids, message_ids, contact_numbers, offsets_in_contact, channel_ids, external_ids, texts, attachment_lists,
                sent_ats) WITH ORDINALITY
         AS m (workspace_id, id, contact_number, offset_in_contact, channel_id, external_id, text, attachments, sent_at, position)
    LEFT JOIN LATERAL (
      SELECT v.id, v.quiet_since IS NOT NULL AS is_quiet, v.close_requested_at, v.closed_at,
             v.state = 'enriching' AND v.awaiting_after_sequence IS NOT NULL AS is_awaited
      FROM conversations v WHERE v.workspace_id = m.workspace_id AND v.id = open_ids[m.contact_number] OFFSET 0
    ) open ON open.close_requested_at IS NULL AND open.closed_at IS NULL
  ), claimed AS (
    INSERT INTO message_keys (workspace_id, channel_id, external_id, contact_id, message_id)
    SELECT m.workspace_id, m.channel_id, m.external_id, m.contact_id, m.id FROM message m
    -- Who stores the same keys for other contacts then waits, and does not deadlock.
    ORDER BY m.channel_id, m.external_id COLLATE "C"
  ), stored AS (
    INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, channel_id, external_id,
                          text, attachments, sent_at, received_at)
    SELECT m.workspace_id, m.id, m.contact_id, m.conversation_id, 'inbound', m.sequence, m.channel_id, m.external_id,
           m.text, m.attachments, m.sent_at, now_under_lock
    FROM message m
  ), evented AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT m.workspace_id, 'message.received', m.conversation_id, m.contact_id,
           jsonb_build_object('messageId', m.id, 'sequence', m.sequence)
    FROM message m WHERE m.conversation_id IS NOT NULL
  ), told AS (
    -- A nudge where nothing is open or the flow waits for an answer, else a waking. The last hexadecimal digit of an id spreads contacts
    -- evenly over the shards (store/outbox.ts).
    INSERT INTO outbox (shard, workspace_id, contact_id, wake_conversation_id)
    SELECT DISTINCT get_byte(uuid_send(m.contact_id), 15) % 16, m.workspace_id, m.contact_id,
                    CASE WHEN NOT m.is_awaited THEN m.conversation_id END
    FROM message m WHERE m.conversation_id IS NULL OR m.is_quiet OR m.is_awaited
    RETURNING shard
  ), progressed AS (
    -- Should whoever is told die, the house timer finds the answer (store/upkeep.ts), which looks for what stands still.
    UPDATE conversations v SET progressed_at = now_under_lock + v.answer_settle_seconds * interval '1 s'
    FROM (SELECT DISTINCT m.workspace_id, m.conversation_id FROM message m WHERE m.is_awaited) answered
    WHERE v.workspace_id = answered.workspace_id AND v.id = answered.conversation_id
  ), rung AS (
    -- Once, and only where somebody is told: store/outbox.ts, wakeRelaysSql.
    SELECT pg_notify('switchyard_outbox', '') FROM told LIMIT 1
  )
  SELECT m.sequence, m.conversation_id FROM message m LEFT JOIN rung ON true ORDER BY m.position;
END
$$;
