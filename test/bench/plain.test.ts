import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nodeArguments, startProcess } from '../../ops/processes.ts';
import { extendEnvironment, loadConfig } from '../../platform/config.ts';
import { findFreePort } from '../../platform/ports.ts';
import { createTemporalClient } from '../../platform/temporal-client.ts';
import { contactWorkflowId } from '../../workflows/contract.ts';
import { eventually } from '../support/eventually.ts';
import { findViolations } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ workers: 0 });
});
afterAll(() => system?.stop());

test('the plain variant carries conversations to their close with all invariants kept, by three regular activities each', async () => {
  const { database, workspace } = system;
  const { workspaceId } = workspace;
  const { client, connection } = createTemporalClient(loadConfig({ TEMPORAL_ADDRESS: system.temporalAddress }));
  const worker = await startPlainProcess();
  try {
    const api = system.apis[0]!;
    await fillWorkspace(system);
    const contactIds: string[] = [];
    for (const round of [1, 2]) {
      for (const contact of ['a', 'b', 'c']) {
        const { contactId } = (await api.send(contact, `invoice ${round}`)).body;
        const assigned = await eventually('assigned', async () => {
          const { items } = await api.get(`/v1/conversations?contactId=${contactId}&state=assigned`);
          return items[0];
        });
        expect(assigned.fields).toEqual({ purpose: 'billing' });
        await api.post(`/v1/conversations/${assigned.id}/close`, {});
        await eventually('closed', async () => (await api.get(`/v1/conversations/${assigned.id}`)).state === 'closed');
        if (round === 1) contactIds.push(contactId);
      }
    }
    await waitUntilSettled({ pool: database.pool, workspaceId });
    expect(await findViolations(database.pool, { workspaceId })).toEqual([]);
    const workflowId = contactWorkflowId({ workspaceId, contactId: contactIds[0]! });
    const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
    const names = events!.flatMap((event) => event.activityTaskScheduledEventAttributes?.activityType?.name ?? []);
    const conversation = ['openConversation', 'routeConversation', 'assignConversation', 'closeConversation'];
    expect(names).toEqual([...conversation, ...conversation]);
  } finally {
    await worker.stop();
    await connection.close();
  }
  expect((await worker.exited).reason, worker.readTail()).toBe('exit code 0');
});

/** As the bench starts it in the place of our own worker. */
async function startPlainProcess() {
  const port = await findFreePort();
  const worker = startProcess({
    name: 'plain worker',
    command: process.execPath,
    args: nodeArguments(fileURLToPath(new URL('./plain-worker.ts', import.meta.url))),
    env: extendEnvironment({
      DATABASE_URL: system.database.url,
      TEMPORAL_ADDRESS: system.temporalAddress,
      TEMPORAL_TASK_QUEUE: system.taskQueue,
      WORKER_METRICS_PORT: String(port),
    }),
    stopTimeoutMs: 20_000,
  });
  const isReady = async () => worker.hasExited() || (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
  await eventually('the plain worker ready', isReady);
  if (worker.hasExited()) throw new Error(worker.readTail());
  return worker;
}
