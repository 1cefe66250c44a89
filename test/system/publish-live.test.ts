/**
 * When a publish is live. What is published is read in the statement that looks at a contact before its conversation is opened
 * (`lookAtContacts`), so the promise of 2 s is kept with room: whoever writes after the publish has been answered gets the new version.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { createFlowHouse, type FlowHouse, type TeamIds } from '../support/flow-house.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { readMetric } from '../support/metrics-page.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ workers: 2 });
});
afterAll(() => system?.stop());

/** Who wants to be asked is asked; all go to this team. */
const leadingTo = (team: keyof TeamIds) => (teams: TeamIds) => ({
  enrichment: [
    {
      kind: 'ask',
      field: 'purpose',
      text: 'What is it?',
      timeoutSeconds: 600,
      settleSeconds: 0,
      when: "message.text == 'Ask me'",
    },
  ],
  routing: { branches: [], otherwise: { teamId: teams[team] } },
});

test('a publish decides every opening after its answer, on each worker, without a restart; the conversation that waits for an answer keeps its version', async () => {
  const house = await createFlowHouse(system, { document: leadingTo('sales') });
  const { workspaceId } = house.workspace;
  await house.say('alice', 'Ask me');
  const { flowVersionId: oldVersionId } = await house.conversationWith('alice', { state: 'enriching' });
  await eventually('she is asked', async () => (await house.messagesOf('alice')).length === 2);
  const before = await openOnEachWorker(house);

  const meanwhile = openMany(house);
  const newVersionId = await house.publish(leadingTo('support'));
  const next = await openMany(house);
  // These wrote while it was published, and may have either. Once they are open, workers count none but those that come after.
  const between = await meanwhile;
  next.push(...(await openOnEachWorker(house)));

  expect(new Set(before)).toEqual(new Set([oldVersionId]));
  expect(between.filter((versionId) => ![oldVersionId, newVersionId].includes(versionId))).toEqual([]);
  expect(new Set(next)).toEqual(new Set([newVersionId]));

  await house.say('alice', 'An order');
  const kept = await house.conversationWith('alice', { state: 'assigned' });
  expect(kept).toMatchObject({ flowVersionId: oldVersionId, teamId: house.teams.sales });
  await waitUntilSettled({ pool: system.database.pool, workspaceId });
  await assertSoundHistory(system.database.pool, { workspaceId });
});

/** Twenty new contacts write at once. @returns the versions of their conversations, when all are open */
async function openMany(house: FlowHouse): Promise<string[]> {
  const said = await Promise.all(Array.from({ length: 20 }, () => house.say(randomUUID(), 'Hello')));
  return eventually('all are open', async () => {
    const { rows } = await system.database.pool.query<{ flowVersionId: string }>(
      `SELECT flow_version_id AS "flowVersionId" FROM conversations WHERE workspace_id = $1 AND contact_id = ANY ($2)`,
      [house.workspace.workspaceId, said.map(({ body }) => body.contactId)],
    );
    return rows.length === said.length && rows.map(({ flowVersionId }) => flowVersionId);
  });
}

/** As many more as it takes until each worker has opened some: which one does is up to the server. */
async function openOnEachWorker(house: FlowHouse): Promise<string[]> {
  const before = await readOpenedCounts();
  const opened: string[] = [];
  for (let round = 1; round <= 20; round += 1) {
    opened.push(...(await openMany(house)));
    const counts = await readOpenedCounts();
    if (counts.every((count, worker) => count > before[worker]!)) return opened;
  }
  throw new Error(`one worker opened none of ${opened.length}`);
}

const readOpenedCounts = (): Promise<number[]> =>
  Promise.all(system.workers.map(({ metricsUrl }) => readMetric(metricsUrl, 'switchyard_conversations_opened_total')));
