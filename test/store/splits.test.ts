/** Splits: each contact keeps its team, whatever is published again, and the teams get their contacts. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow, updateFlow } from '../../store/flows.ts';
import { openForContact } from '../../store/opening.ts';
import { routeByFlow } from '../../store/routing.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;
beforeAll(async () => void (database = await createTestDatabase()));
afterAll(() => database?.drop());

/** Of a fair coin, all show the same side less than once in a hundred million times. */
const contacts = Array.from({ length: 30 }, () => newId());

/** A live flow with a branch that splits all contacts in halves. */
async function prepare() {
  const { pool } = database;
  const stage = await createStage(pool);
  const { workspaceId } = stage;
  const teams = [await stage.addTeam(), await stage.addTeam()];

  const documentOf = (branch: string) => {
    const split = teams.map((teamId) => ({ percent: 50, teamId }));
    return {
      routing: { branches: [{ name: branch, when: 'true', split }], otherwise: { teamId: stage.defaultTeamId } },
    };
  };
  const flow = { workspaceId, name: 'Halves', description: '' };
  const created = await createFlow(pool, { ...flow, document: documentOf('Trial') });
  if (created.kind !== 'created') throw new Error(created.kind);
  const flowId = created.flow.id;

  async function publish(branch: string): Promise<number> {
    await updateFlow(pool, { workspaceId, flowId, document: documentOf(branch) });
    const published = await publishFlow(pool, { workspaceId, flowId });
    if (published.kind !== 'published') throw new Error(published.kind);
    return published.version.number;
  }

  /** The contact writes; its conversation ends as soon as it has a team. */
  async function visit(contact: string): Promise<string> {
    const { contactId } = await stage.write(contact);
    const { phase } = await openForContact(pool, { workspaceId, contactId });
    if (phase.kind !== 'routing') throw new Error(phase.kind);
    const { conversationId } = phase;
    const routed = await routeByFlow(pool, { workspaceId, contactId, conversationId });
    await stage.close({ contactId, conversationId });
    return routed!.teamId!;
  }

  return { teams, publish, visit };
}

async function visitAll(visit: (contact: string) => Promise<string>): Promise<string[]> {
  const teamIds: string[] = [];
  for (const contact of contacts) teamIds.push(await visit(contact));
  return teamIds;
}

test('a contact keeps its team when the same split is published again, and both teams get contacts', async () => {
  const { teams, publish, visit } = await prepare();
  expect(await publish('Trial')).toBe(1);
  const before = await visitAll(visit);
  expect(new Set(before)).toEqual(new Set(teams));
  expect(await publish('Trial')).toBe(2);
  expect(await visitAll(visit)).toEqual(before);
});

test('under another name of the branch the contacts are split anew', async () => {
  const { publish, visit } = await prepare();
  await publish('Trial');
  const before = await visitAll(visit);
  await publish('Second trial');
  expect(await visitAll(visit)).not.toEqual(before);
});
