/**
 * What ingest is compared with: a bare Fastify that puts the same row, with all columns of `messages`, into a plain table with its primary key
 * and the unique key that makes a repeated delivery harmless, in the same batches over the same connections, answered after the commit. It
 * checks no key and no body, has no contacts, order, partitions or events: what those cost is what the ratio prices.
 */
import { fastify } from 'fastify';
import { createIngestPool } from '../../api/ingest.ts';
import { readConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMicroBatcher } from '../../platform/micro-batcher.ts';
import type { LoadMessage } from './ingest-load.ts';

interface Row extends LoadMessage {
  readonly id: string;
}

const config = readConfig({ required: ['DATABASE_URL'] });
const pool = createIngestPool(config, createLogger(config, 'api'));
await pool.query(`
  CREATE TABLE IF NOT EXISTS bare_messages (
    LIKE messages INCLUDING DEFAULTS,
    PRIMARY KEY (workspace_id, id), UNIQUE (workspace_id, channel_id, external_id)
  )`);
const insertSql = `
  INSERT INTO bare_messages (workspace_id, id, contact_id, conversation_id, direction, sequence, channel_id, external_id, text)
  SELECT $1::uuid, id, $1::uuid, $1::uuid, 'inbound', 1, $1::uuid, external_id, text
  FROM unnest($2::uuid[], $3::text[], $4::text[]) AS m (id, external_id, text)
  ON CONFLICT DO NOTHING`;
/** Whatever the row refers to: there is nothing to look it up in. */
const anyId = newId();

const batcher = createMicroBatcher<Row, string>({
  name: 'bare',
  maxInFlight: 4,
  maxWaitMs: 0,
  keyOf: (row) => row.contact.externalId,
  async flush(rows) {
    await pool.query({
      name: 'insert-bare-messages',
      text: insertSql,
      values: [anyId, rows.map((row) => row.id), rows.map((row) => row.externalId), rows.map((row) => row.text)],
    });
    return rows.map(({ id }) => ({ ok: true, value: id }));
  },
});

const app = fastify();
app.post<{ Body: LoadMessage }>('/v1/messages', async (request, reply) => {
  const messageId = await batcher.add({ ...request.body, id: newId() });
  return reply.code(202).send({ messageId });
});
app.get('/readyz', () => ({ status: 'ready' }));
await app.listen({ port: config.port, host: config.host });
process.once('SIGTERM', () => process.exit(0));
