import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

/** A workspace whose agents know German, Spanish and French, with two teams. */
async function prepare() {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  for (const skills of [{ german: 4 }, { spanish: 5, french: 1 }]) {
    const agent = await workspace.post('/agents', { name: 'Ada', capacity: 1, skills }, admin);
    expect(agent.status).toBe(201);
  }
  const team = await workspace.post('/teams', { name: 'Second' }, admin);
  const teamId = workspace.defaultTeamId;
  const draft = (otherwise: object, branch: object = {}) => ({
    name: 'Asking',
    document: {
      enrichment: [{ kind: 'set', field: 'topic', value: 'a' }],
      routing: {
        branches: [{ name: 'A', when: "fields.topic == 'a'", teamId, priority: 1, ...branch }],
        otherwise: { teamId, priority: 1, ...otherwise },
      },
    },
  });
  return {
    workspace,
    teamId,
    secondTeamId: team.body['id'] as string,
    draft,
    create: (otherwise: object, branch?: object) => workspace.post('/flows', draft(otherwise, branch), admin),
  };
}

interface ToldFault {
  readonly field: string;
  readonly message: string;
  readonly mend: string;
}

function faultsOf(answer: { status: number; body: any }): ToldFault[] {
  expect(answer).toMatchObject({ status: 422, body: { type: 'urn:switchyard:problem:invalid_flow' } });
  return answer.body['errors'];
}

const fieldsOf = (faults: readonly ToldFault[]) => faults.map(({ field }) => field).toSorted();

test('requirements and rings are accepted, published, and given back as they were written', async () => {
  const { workspace, secondTeamId, create } = await prepare();
  const asked = {
    requirements: [
      { skill: 'spanish', level: 4 },
      { skillFromField: 'topic', level: 2, preferred: true },
    ],
    rings: [
      { afterSeconds: 30, relax: [{ skill: 'spanish', level: 2 }] },
      { afterSeconds: 90, relax: [{ skill: 'spanish', level: 0 }] },
      { afterSeconds: 180, overflowTeamId: secondTeamId },
      { afterSeconds: 600, fallback: 'close' },
    ],
  };
  const created = await create(asked, asked);
  expect(created.status).toBe(201);
  const published = await workspace.post(`/flows/${created.body['id']}/publish`, undefined, workspace.keys.admin);
  expect(published).toMatchObject({
    status: 201,
    body: { document: { routing: { branches: [asked], otherwise: asked } } },
  });
});

test('an unknown skill is refused and the nearest known one is named', async () => {
  const { create } = await prepare();
  const faults = faultsOf(await create({ requirements: [{ skill: 'Spansih', level: 2 }] }));
  expect(faults).toEqual([
    {
      field: '/document/routing/otherwise/requirements/0/skill',
      message: 'no agent of this workspace has this skill',
      mend: 'The nearest known skill is "spanish".',
    },
  ]);
  const [far] = faultsOf(await create({ requirements: [{ skill: 'klingon', level: 2 }] }));
  expect(far?.mend).toContain('"french", "german", "spanish"');
});

test('a ring without end is refused', async () => {
  const { create, secondTeamId } = await prepare();
  const rings = [{ afterSeconds: 30, overflowTeamId: secondTeamId }];
  expect(faultsOf(await create({ rings }))).toEqual([
    {
      field: '/document/routing/otherwise/rings',
      message: 'have no end: the last ring must tell the fallback',
      mend: 'Add a last ring with a fallback, "wait" or "close".',
    },
  ]);
});

test('an overflow in a circle is refused, as is one to a team that is not there', async () => {
  const { create, teamId, secondTeamId } = await prepare();
  const ringsTo = (...teamIds: string[]) => [
    ...teamIds.map((overflowTeamId, index) => ({ afterSeconds: index + 1, overflowTeamId })),
    { afterSeconds: 60, fallback: 'wait' },
  ];
  const faults = faultsOf(
    await create({ rings: ringsTo(secondTeamId, newId(), secondTeamId) }, { rings: ringsTo(teamId) }),
  );
  expect(fieldsOf(faults)).toEqual([
    '/document/routing/branches/0/rings/0/overflowTeamId',
    '/document/routing/otherwise/rings/1/overflowTeamId',
    '/document/routing/otherwise/rings/2/overflowTeamId',
  ]);
  // Other places are told as fields are: by whole pointers.
  expect(faults.map(({ message }) => message).filter((message) => message.includes('circle'))).toEqual([
    'goes in a circle: this team has it already, by /document/routing/branches/0/teamId',
    'goes in a circle: this team has it already, by /document/routing/otherwise/rings/0',
  ]);
});

test('absurd sizes are refused', async () => {
  const { create, secondTeamId } = await prepare();
  const rings = Array.from({ length: 1_000 }, () => ({ afterSeconds: 1e300, overflowTeamId: secondTeamId }));
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ skillFromField: `f${index}`, level: 1 }));
  const faults = faultsOf(
    await create(
      { requirements: many(1_000), rings },
      {
        requirements: [{ skill: 'x'.repeat(10_000), level: 1e9 }],
        rings: [{ afterSeconds: 604_801, fallback: 'wait' }],
      },
    ),
  );
  const fields = fieldsOf(faults);
  for (const path of [
    'branches/0/requirements/0/skill',
    'branches/0/requirements/0/level',
    'branches/0/rings/0/afterSeconds',
    'otherwise/requirements',
    'otherwise/rings',
  ]) {
    expect(fields).toContain(`/document/routing/${path}`);
  }
  for (const { message, mend } of faults) expect(message.length + mend.length).toBeLessThan(500);
});

test('every fault is told in one answer, and nothing is stored', async () => {
  const { workspace, create, teamId } = await prepare();
  const answer = await create(
    {
      requirements: [
        { skill: 'german', level: 6 },
        { skill: 'german', level: 1 },
      ],
      rings: [
        { afterSeconds: 60, fallback: 'explode' },
        { afterSeconds: 60, relax: [{ skill: 'spanish', level: 1 }] },
      ],
    },
    {
      requirements: [{ skill: 'french', level: 3 }, { skill: 'germn', level: 1 }, { level: 1 }],
      rings: [
        { afterSeconds: 30, relax: [{ skill: 'french', level: 3 }] },
        { afterSeconds: 20, overflowTeamId: teamId },
        { afterSeconds: 40 },
      ],
    },
  );
  expect(fieldsOf(faultsOf(answer))).toEqual([
    '/document/routing/branches/0/requirements/1/skill',
    '/document/routing/branches/0/requirements/2',
    '/document/routing/branches/0/rings',
    '/document/routing/branches/0/rings/0/relax/0/level',
    '/document/routing/branches/0/rings/1/afterSeconds',
    '/document/routing/branches/0/rings/1/overflowTeamId',
    '/document/routing/branches/0/rings/2',
    '/document/routing/otherwise/requirements/0/level',
    '/document/routing/otherwise/requirements/1/skill',
    '/document/routing/otherwise/rings/0/fallback',
    '/document/routing/otherwise/rings/1',
    '/document/routing/otherwise/rings/1/afterSeconds',
    '/document/routing/otherwise/rings/1/relax/0/skill',
  ]);
  for (const { message, mend } of faultsOf(answer)) {
    expect(message).not.toBe('');
    expect(mend).toMatch(/\.$/);
  }
  expect(answer.body['detail']).toBe('The flow has 13 faults; nothing was changed.');
  expect((await workspace.get('/flows')).body['items']).toEqual([]);
});

test('a change of a draft is refused in the same way, and the draft stays', async () => {
  const { workspace, create, draft } = await prepare();
  const { body } = await create({ requirements: [{ skill: 'german', level: 3 }] });
  const { document } = draft({ requirements: [{ skill: 'danish', level: 3 }] });
  const faults = faultsOf(await workspace.patch(`/flows/${body['id']}`, { document }));
  expect(fieldsOf(faults)).toEqual(['/document/routing/otherwise/requirements/0/skill']);
  const kept = await workspace.get(`/flows/${body['id']}`);
  expect(kept.body['document'].routing.otherwise.requirements).toEqual([{ skill: 'german', level: 3 }]);
});
