import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTemporalDevServer, type TemporalDevServer } from '../../ops/temporal-server.ts';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { readMetric } from '../support/metrics-page.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { startTraffic } from '../support/traffic.ts';
import { fillWorkspace } from '../support/workspace.ts';

const outageMs = 10_000;

let stateDir: string;
let temporal: TemporalDevServer;
let system: TestSystem;

const startTemporal = (port?: number): Promise<TemporalDevServer> =>
  startTemporalDevServer({ stateDir, log: () => undefined, uiPort: null, ...(port === undefined ? {} : { port }) });

beforeAll(async () => {
  // A server of its own: the one that all tests share must not be stopped.
  stateDir = await mkdtemp(join(tmpdir(), 'switchyard-outage-'));
  temporal = await startTemporal();
  system = await startSystem({ temporalAddress: temporal.address });
  await fillWorkspace(system);
});
afterAll(async () => {
  await system?.stop();
  await temporal?.stop();
  await rm(stateDir, { recursive: true, force: true });
});

test('Temporal is away for 10 s under ingest and closes: all are answered 202, and each message ends in one conversation', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const api = system.apis[0]!;
  const traffic = startTraffic({ apis: () => system.apis, contacts: 8, paceMs: 50, closes: true });
  await eventually('some cycles before the outage', () => traffic.closed.size >= 16);

  await temporal.stop();
  const stoppedAt = Date.now();
  const acceptedBefore = traffic.accepted.length;
  // People who never wrote before begin just now.
  const newcomers = startTraffic({
    apis: () => system.apis,
    contacts: 4,
    paceMs: 100,
    closes: true,
    prefix: 'newcomer',
  });
  await eventually(
    'the outage to have lasted',
    async () => {
      expect((await api.call('GET', '/readyz')).status).toBe(200);
      return Date.now() - stoppedAt >= outageMs;
    },
    { everyMs: 250 },
  );
  expect(traffic.accepted.length - acceptedBefore).toBeGreaterThan(20);
  expect(newcomers.accepted.length).toBeGreaterThan(8);
  expect(newcomers.accepted.every((message) => message.conversationId === null)).toBe(true);

  temporal = await startTemporal(Number(temporal.address.split(':').at(-1)));
  expect(temporal.address).toBe(system.temporalAddress);
  const closedInOutage = traffic.closed.size;
  await eventually('cycles after the outage', () => traffic.closed.size >= closedInOutage + 16, { timeoutMs: 120_000 });
  await Promise.all([traffic.stop(), newcomers.stop()]);
  await waitUntilSettled({ pool, workspaceId });
  const tookMs = Date.now() - stoppedAt;

  expect([...traffic.refusals, ...newcomers.refusals]).toEqual([]);
  await assertSoundHistory(pool, { workspaceId, accepted: [...traffic.accepted, ...newcomers.accepted] });
  // What is in the outbox is on its way: the house timer had nothing to mend, however long Temporal was away.
  // On a machine so slow that half a minute has passed, it rightly looks after what it finds unopened.
  const mended = await readMetric(system.workers[0]!.metricsUrl, 'switchyard_house_timer_mended_total');
  if (tookMs < 30_000) expect(mended).toBe(0);
});
