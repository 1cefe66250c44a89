import { expect, it } from 'vitest';
import { validateFlow } from '../../routing/flow-document.ts';

const TEAM = '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11';

function faultsOf(document: unknown): string[] {
  const result = validateFlow(document, { teamIds: new Set([TEAM]), skills: new Set() });
  return result.ok ? [] : result.faults.map(({ path, message, mend }) => `${path} ${message} | ${mend}`);
}

const routing = { branches: [], otherwise: { teamId: TEAM } };
const withStep = (step: object) => ({ enrichment: [step], routing });
const withOtherwise = (otherwise: object) => ({ routing: { branches: [], otherwise: { teamId: TEAM, ...otherwise } } });
const http = { kind: 'http', url: 'https://crm.example', timeoutMs: 1000, fields: { tier: '/tier' } };

it.each<[what: string, document: unknown, fault: string]>([
  ['no object', [], ' must be an object | Give an object.'],
  ['a missing member', { routing: { branches: [] } }, '/routing/otherwise is required | Give an object.'],
  [
    'a wrong type',
    { routing: { ...routing, branches: {} } },
    '/routing/branches must be a list | Give a list of at most 50 entries.',
  ],
  ['an unknown name', { routing, colour: 1 }, '/colour is not known here | Remove it, or check its spelling.'],
  [
    'a number that is too great',
    withOtherwise({ priority: 101 }),
    '/routing/otherwise/priority is more than 100 | Give a whole number from 0 to 100.',
  ],
  ['a blank text', withOtherwise({ text: '  ' }), '/routing/otherwise/text is blank | Give a text that is not blank.'],
  [
    'an empty text, once',
    withOtherwise({ text: '' }),
    '/routing/otherwise/text is empty | Give a text of 1 to 4096 characters.',
  ],
  [
    'a word that is none of a few',
    withStep({ ...http, method: 'PUT' }),
    '/enrichment/0/method is not one of the allowed values | Give "GET" or "POST".',
  ],
  [
    'the one value that may stand there',
    withOtherwise({ teamId: undefined, close: false }),
    '/routing/otherwise/close is not the allowed value | Give true, or leave it out.',
  ],
  [
    'a value that is none of several types',
    withStep({ kind: 'set', field: 'tier', value: null }),
    '/enrichment/0/value is no field value | Give a text of at most 1000 characters, a number, true or false.',
  ],
  [
    'a required value of several types',
    withStep({ kind: 'set', field: 'tier' }),
    '/enrichment/0/value is required | Give a text of at most 1000 characters, a number, true or false.',
  ],
  [
    'a free name that has not its form',
    withStep({ ...http, fields: { Tier: '/tier' } }),
    '/enrichment/0/fields/Tier is no field name | Begin with a small letter, then letters, digits or _, 64 characters at most.',
  ],
  [
    'an object of free names that is none',
    withStep({ ...http, fields: 'tier' }),
    '/enrichment/0/fields must be an object | Give an object of 1 to 50 members.',
  ],
  [
    'what lies behind a name that must be escaped',
    withStep({ ...http, headers: { 'x~y': { secret: '?' } } }),
    '/enrichment/0/headers/x~0y/secret is no name of a secret | Give letters, digits, _ and -, 64 characters at most.',
  ],
])('words %s', (_what, document, fault) => {
  expect(faultsOf(document)).toContain(fault);
});

it('tells an empty text once, and a wrong type where only some values may stand', () => {
  expect(faultsOf({ trigger: { on: 5, condition: 'true' }, routing })).toHaveLength(1);
  expect(faultsOf(withOtherwise({ text: '' }))).toHaveLength(1);
});
