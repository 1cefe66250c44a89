import { describe, expect, it } from 'vitest';
import { fieldsFromResponse, findKnownFields } from '../../routing/enrichment.ts';
import { foldText, searchWords } from '../../routing/words.ts';
import type { ContactStep, HttpStep, KeywordsStep, SetStep } from '../../routing/step-schemas.ts';
import { exampleFacts } from './example-facts.ts';

const find = (step: SetStep | KeywordsStep | ContactStep, text = '', facts = exampleFacts) =>
  findKnownFields(step, { facts, words: () => searchWords(foldText(text)) });

function purposeOf(text: string, keywords: string[]) {
  const step: KeywordsStep = { kind: 'keywords', field: 'purpose', rules: [{ value: 'hit', keywords }] };
  return find(step, text).fields['purpose'] === 'hit';
}

it('set tells its value', () => {
  expect(find({ kind: 'set', field: 'tier', value: 'gold' })).toEqual({ fields: { tier: 'gold' } });
});

describe('keywords', () => {
  it.each([
    ['Where is my INVOICE?', 'invoice'],
    ['Où est ma FACTURE PAYÉE', 'payee'],
    ['Grüße aus der STRASSE', 'Straße'],
    ['ＩＮＶＯＩＣＥ please', 'invoice'],
    ['my credit\n  card', 'credit card'],
    ['İstanbul', 'istanbul'],
    ['Ο ΛΟΓΑΡΙΑΣΜΟΣ μου', 'λογαριασμός'],
    ['我的发票错了', '发票'],
    ['我的bill错了', 'bill'],
    ['أين فَاتُورَتي', 'فاتورة'.slice(0, 5)],
    ['والفاتورة خطأ', 'فاتورة'],
    ['где мой счёт', 'счет'],
    ['बिल गलत है', 'बिल'],
    ['청구서가 틀려요', '청구서'],
    ['price: 50€!', '50€'],
    ['bills, bill', 'bill'],
  ])('%s has %s', (text, keyword) => {
    expect(purposeOf(text, [keyword])).toBe(true);
  });

  it.each([
    ['billing question', 'bill'],
    ['my handbill', 'bill'],
    ['order 12345', '1234'],
    ['résumés', 'resume'],
    ['', 'bill'],
    ['각도', '가'],
    ['बल', 'बिल'],
    ['anything', '   '],
  ])('%s does not have %s', (text, keyword) => {
    expect(purposeOf(text, [keyword])).toBe(false);
  });

  const step: KeywordsStep = {
    kind: 'keywords',
    field: 'purpose',
    rules: [
      { value: 'billing', keywords: ['invoice'] },
      { value: 'shipping', keywords: ['parcel', 'late'] },
    ],
    otherwise: 'general',
  };

  it('takes the first rule that matches, wherever its keyword stands', () => {
    expect(find(step, 'late parcel and an invoice')).toEqual({ fields: { purpose: 'billing' } });
  });

  it('falls back to otherwise, and without one tells nothing', () => {
    expect(find(step, 'hello')).toEqual({ fields: { purpose: 'general' } });
    const { otherwise: _, ...without } = step;
    expect(find(without, 'hello')).toEqual({ fields: {} });
  });

  it('folding twice changes nothing', () => {
    for (const text of ['Grüße ẞ', 'İı', 'ΟΔΟΣ', 'がぎ', 'ﬁne']) expect(foldText(foldText(text))).toBe(foldText(text));
  });
});

describe('contact', () => {
  const contact = {
    ...exampleFacts.contact,
    name: 'Ann',
    attributes: { lifecycle: 'customer', orders: 4, nested: { a: 1 }, long: 'x'.repeat(2000), none: null },
  };
  const history = { conversationCount: 0, lastAgentId: 'a1', lastCategory: null };
  const facts = { ...exampleFacts, contact, history };
  const of = (source: string) => find({ kind: 'contact', fields: { found: source } }, '', facts);

  it.each([
    ['name', 'Ann'],
    ['lifecycle', 'customer'],
    ['conversationCount', 0],
    ['lastAgentId', 'a1'],
    ['attributes/orders', 4],
    ['attributes/long', 'x'.repeat(1000)],
  ])('tells %s', (source, value) => {
    expect(of(source)).toEqual({ fields: { found: value } });
  });

  it.each(['lastCategory', 'attributes/nested', 'attributes/none', 'attributes/toString', 'somethingNewer'])(
    'tells nothing of %s, which is not there',
    (source) => {
      expect(of(source)).toEqual({ fields: {}, remark: `not known: ${source}` });
    },
  );

  it('tells what it can, and all that it cannot', () => {
    const step: ContactStep = {
      kind: 'contact',
      fields: { who: 'name', phase: 'lifecycle', count: 'conversationCount', plan: 'attributes/plan' },
    };
    expect(find(step)).toEqual({
      fields: { plan: 'gold' },
      remark: 'not known: name, lifecycle, conversationCount',
    });
  });
});

describe('http', () => {
  const step: HttpStep = {
    kind: 'http',
    url: 'https://crm.example/lookup',
    timeoutMs: 2000,
    fields: { tier: '/customer/tier', second: '/list/1', odd: '/a~1b/~0c', inherited: '/toString', whole: '' },
  };

  it('reads fields by JSON pointer and names the missing', () => {
    const json = { customer: { tier: 'gold' }, list: [1, 2], 'a/b': { '~c': true } };
    expect(fieldsFromResponse(step, json)).toEqual({
      fields: { tier: 'gold', second: 2, odd: true },
      missing: ['inherited', 'whole'],
    });
  });

  it.each([null, undefined, 'text', 7, [], { customer: null }, { customer: { tier: {} } }])(
    'takes nothing from %j',
    (json) => {
      expect(fieldsFromResponse({ ...step, fields: { tier: '/customer/tier' } }, json)).toEqual({
        fields: {},
        missing: ['tier'],
      });
    },
  );

  it('makes texts fit to be stored', () => {
    const { fields } = fieldsFromResponse(
      { ...step, fields: { a: '/a', b: '/b' } },
      { a: 'x\0\ud800y', b: 'x'.repeat(2000) },
    );
    expect(fields['a']).toBe('x\ufffd\ufffdy');
    expect(fields['b']).toHaveLength(1000);
  });
});
