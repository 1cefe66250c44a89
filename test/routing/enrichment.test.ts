import { describe, expect, it } from 'vitest';
import { applyStep, fieldsFromResponse, foldText } from '../../routing/enrichment.ts';
import type { HttpStep, KeywordsStep } from '../../routing/flow-document.ts';

function purposeOf(text: string, keywords: string[]) {
  const step: KeywordsStep = { kind: 'keywords', field: 'purpose', rules: [{ value: 'hit', keywords }] };
  return applyStep(step, { fields: {}, text })['purpose'] === 'hit';
}

describe('set', () => {
  it('adds to the known fields and changes none in place', () => {
    const fields = { a: 1 };
    expect(applyStep({ kind: 'set', field: 'tier', value: 'gold' }, { fields, text: '' })).toEqual({
      a: 1,
      tier: 'gold',
    });
    expect(fields).toEqual({ a: 1 });
  });
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
    expect(applyStep(step, { fields: {}, text: 'late parcel and an invoice' })).toEqual({ purpose: 'billing' });
  });

  it('falls back to otherwise, and without one leaves the fields as they are', () => {
    expect(applyStep(step, { fields: { a: 1 }, text: 'hello' })).toEqual({ a: 1, purpose: 'general' });
    const { otherwise: _, ...without } = step;
    expect(applyStep(without, { fields: { a: 1 }, text: 'hello' })).toEqual({ a: 1 });
  });

  it('folding twice changes nothing', () => {
    for (const text of ['Grüße ẞ', 'İı', 'ΟΔΟΣ', 'がぎ', 'ﬁne']) expect(foldText(foldText(text))).toBe(foldText(text));
  });
});

describe('http', () => {
  const step: HttpStep = {
    kind: 'http',
    url: 'https://crm.example/lookup',
    timeoutMs: 2000,
    fields: { tier: '/customer/tier', second: '/list/1', odd: '/a~1b/~0c', inherited: '/toString', whole: '' },
  };

  it('needs a response', () => {
    expect(applyStep(step, { fields: {}, text: '' })).toBe('needs response');
  });

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
