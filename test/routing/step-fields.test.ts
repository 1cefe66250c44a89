import { describe, expect, it } from 'vitest';
import { fieldTypesOf } from '../../routing/step-fields.ts';
import type { EnrichmentStep } from '../../routing/step-schemas.ts';

describe('the fields that steps may set', () => {
  const typesOf = (...steps: EnrichmentStep[]) => Object.fromEntries(fieldTypesOf(steps));
  const ask = { kind: 'ask', field: 'a', text: 'A?', timeoutSeconds: 60 } as const;
  const keywords = { kind: 'keywords', field: 'k' } as const;
  const choice = (value: string | number) => ({ value, label: String(value) });

  it('are typed by the kind of the step', () => {
    const http = { kind: 'http', url: 'https://x.test', timeoutMs: 1000, fields: { h: '/h' } } as const;
    const labels = [{ label: 'x' }, { label: 'y' }];
    expect(
      typesOf(
        { kind: 'set', field: 's', value: true },
        { kind: 'language', field: 'l', confidenceField: 'c' },
        http,
        { kind: 'classify', field: 'y', labels, otherwise: 'x', timeoutMs: 1000 },
        { kind: 'contact', fields: { n: 'name', o: 'conversationCount', i: 'lifecycle', t: 'attributes/tier' } },
      ),
    ).toEqual({
      s: 'boolean',
      l: 'string',
      c: 'number',
      h: 'any',
      y: 'string',
      n: 'string',
      o: 'number',
      i: 'any',
      t: 'any',
    });
  });

  it('are of any type where their values differ', () => {
    const rules = [
      { value: 1, keywords: ['a'] },
      { value: 2, keywords: ['b'] },
    ];
    expect(typesOf({ ...keywords, rules })).toEqual({ k: 'number' });
    expect(typesOf({ ...keywords, rules, otherwise: 'none' })).toEqual({ k: 'any' });
    expect(typesOf({ ...keywords, rules }, { kind: 'set', field: 'k', value: 3 })).toEqual({ k: 'number' });
    expect(typesOf({ ...keywords, rules }, { kind: 'set', field: 'k', value: 'x' })).toEqual({ k: 'any' });
    expect(typesOf(ask)).toEqual({ a: 'string' });
    expect(typesOf({ ...ask, choices: [choice(1), choice(2)] })).toEqual({ a: 'number' });
    expect(typesOf({ ...ask, choices: [choice(1), choice('x')] })).toEqual({ a: 'any' });
    expect(typesOf({ ...ask, giveUp: { value: false } })).toEqual({ a: 'any' });
  });
});
