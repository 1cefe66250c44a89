import { expect, test } from 'vitest';
import { toProblem } from '../../api/error-answers.ts';
import { listProblems, problem } from '../../api/problems.ts';
import { QueueFullError } from '../../platform/micro-batcher.ts';

test('every problem has a name, an error status and a title of its own', () => {
  const problems = listProblems();
  for (const [name, { status, title }] of problems) {
    expect(name).toMatch(/^(?:conflict\.)?[a-z_]+$/);
    expect(status, name).toBeGreaterThanOrEqual(400);
    expect(title.length, name).toBeGreaterThan(0);
    expect(name.startsWith('conflict.'), name).toBe(status === 409);
  }
  expect(new Set(problems.map(([, { title }]) => title)).size).toBe(problems.length);
});

test('whatever is unavailable for a while says that and when to try again', () => {
  for (const [name, { status, retryable, retryAfterSeconds }] of listProblems()) {
    expect(retryAfterSeconds !== undefined, name).toBe(status === 503 || status === 429);
    if (retryAfterSeconds !== undefined) expect(retryable, name).toBe(true);
  }
});

test('the body of a problem is what RFC 9457 asks for, and extra members cannot replace its own', () => {
  const { body, statusCode } = problem('conflict.already_open', {
    detail: 'It is open.',
    errors: [{ field: '/contactId', message: 'has an open conversation' }],
    extra: { conversationId: 'c', status: 200 },
  });
  expect(statusCode).toBe(409);
  expect(body).toEqual({
    type: 'urn:switchyard:problem:conflict.already_open',
    title: 'The contact has an open conversation',
    status: 409,
    retryable: false,
    detail: 'It is open.',
    errors: [{ field: '/contactId', message: 'has an open conversation' }],
    conversationId: 'c',
  });
});

test.each([
  ['a full queue', new QueueFullError('ingest', { queued: 1, heldBytes: 1_500 }), 'overloaded'],
  ['a refused connection', Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }), 'unavailable'],
  ['a failover', Object.assign(new Error('read-only transaction'), { code: '25006' }), 'unavailable'],
  ['a lost lock', Object.assign(new Error('lock timeout'), { code: '55P03' }), 'unavailable'],
  ['a statement timeout', Object.assign(new Error('canceling statement'), { code: '57014' }), 'unavailable'],
  ['a broken constraint', Object.assign(new Error('duplicate key'), { code: '23505' }), 'internal'],
  ['a bug', new TypeError('x is not a function'), 'internal'],
])('%s is told as a problem of the catalogue', (_what, error, name) => {
  const answer = toProblem(error);
  expect(answer.problemName).toBe(name);
  expect(JSON.stringify(answer.body)).not.toContain(error.message);
});
