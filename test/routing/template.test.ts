import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RoutingFacts } from '../../routing/facts.ts';
import { compileTemplate, fillTemplate } from '../../routing/template.ts';
import { exampleFacts } from './example-facts.ts';

function fill(
  source: string,
  { facts = exampleFacts, escape }: { facts?: RoutingFacts; escape?: 'url' | 'none' } = {},
) {
  const result = compileTemplate(source);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return fillTemplate(result.template, facts, escape);
}

const faultsOf = (source: string, fields?: ReadonlyMap<string, unknown>) => {
  const result = compileTemplate(source, fields);
  return result.ok ? [] : result.faults;
};

const withText = (text: string): RoutingFacts => ({ ...exampleFacts, message: { text } });

describe('a template is filled', () => {
  it.each([
    ['no names', 'no names'],
    ['{ } }} {}', '{ } }} {}'],
    ['{{channel.name}}', 'Mail'],
    [
      'Hello {{ contact.id }}, about {{fields.purpose}}: {{message.text}}',
      'Hello c1, about billing: My invoice is wrong 😀',
    ],
    ['{{fields.score}} {{fields.vip}} {{conversation.priority}} {{conversation.source}}', '0.5 true 3 contact'],
    ['{{contact.attributes.plan}}{{\n contact.attributes.orders\n}}{{channel.key}}', 'gold4mail'],
    [
      '[{{contact.name}}][{{fields.missing}}][{{contact.attributes.missing}}][{{contact.attributes.nested}}]',
      '[][][][]',
    ],
    ['[{{fields.toString}}][{{contact.attributes.__proto__}}][{{fields.constructor}}]', '[][][]'],
    ['{{contact.attributes.constructor}}', 'x'],
  ])('%s', (source, filled) => {
    expect(fill(source)).toBe(filled);
  });

  it('what is filled in is not filled again', () => {
    expect(fill('{{message.text}}', { facts: withText('{{contact.id}}') })).toBe('{{contact.id}}');
  });

  it('attributes may have any name', () => {
    const contact = { ...exampleFacts.contact, attributes: { 'order id': 7, 'a.b': 'dotted' } };
    expect(
      fill('{{contact.attributes.order id}} {{contact.attributes.a.b}}', { facts: { ...exampleFacts, contact } }),
    ).toBe('7 dotted');
  });

  it('values in addresses cannot leave their place', () => {
    const facts = withText('a/b?c=d&e#f g%\n😀');
    expect(fill('https://x.test/{{message.text}}', { facts, escape: 'url' })).toBe(
      'https://x.test/a%2Fb%3Fc%3Dd%26e%23f%20g%25%0A%F0%9F%98%80',
    );
  });

  it('long values are cut, without half a character, and many are left out', () => {
    expect(fill('{{message.text}}', { facts: withText(`${'x'.repeat(999)}😀`) })).toBe('x'.repeat(999));
    expect(fill('{{message.text}}!'.repeat(100), { facts: withText('x'.repeat(4096)) })).toHaveLength(16_000 + 100);
  });

  it('whatever stands in it: no U+0000, no half characters, nothing thrown', () => {
    const sources = ['{{message.text}}', '{{contact.name}}', '{{fields.a}}', '{{contact.attributes.a}}', ' '];
    const template = fc.array(fc.constantFrom(...sources), { maxLength: 20 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(template, fc.string({ unit: 'binary', maxLength: 2000 }), fc.jsonValue(), (source, text, value) => {
        const half = `${text}\0\ud83d`;
        const facts: RoutingFacts = {
          ...withText(half),
          contact: { id: 'c', name: half, attributes: { a: value } },
          fields: { a: half },
        };
        for (const escape of ['url', 'none'] as const) {
          const filled = fill(source, { facts, escape });
          expect(filled.includes('\0') || /\p{Surrogate}/u.test(filled)).toBe(false);
          expect(filled.length).toBeLessThanOrEqual(16_384 + source.length);
        }
      }),
    );
  });
});

describe('faults of a template', () => {
  it.each([
    ['{{foo}}', 'unknown name "foo"; known are contact.id, contact.name', 0],
    ['a {{contact.email}}', 'unknown name "contact.email"', 2],
    ['{{contact}}', 'unknown name "contact"', 0],
    ['{{contact.attributes.}}', 'unknown name', 0],
    ['{{contact.name.x}}', 'unknown name', 0],
    ['{{fields.Foo}}', 'unknown name "fields.Foo"', 0],
    ['{{fields.a.b}}', 'unknown name', 0],
    ['{{toString.x}}', 'unknown name', 0],
    ['{{}}', 'unknown name ""', 0],
    ['x {{contact.name', 'the {{ is not closed by }}', 2],
    ['x {{contact.name} }', 'the {{ is not closed by }}', 2],
    ['{{ {{contact.name}}', 'unknown name "{{contact.name"', 0],
  ])('%s: %s', (source, message, position) => {
    expect(faultsOf(source)).toEqual([{ message: expect.stringContaining(message), position }]);
  });

  it('all of them are told', () => {
    expect(faultsOf('{{a}} {{b}} {{c').map(({ position }) => position)).toEqual([0, 6, 12]);
  });

  it('fields that no step sets, where it is known which are set', () => {
    const fields = new Map([['purpose', 'string']]);
    expect(faultsOf('{{fields.purpose}}', fields)).toEqual([]);
    expect(faultsOf('{{fields.purpos}}', fields)).toEqual([
      { message: 'no step before sets the field "purpos"; set are purpose', position: 0 },
    ]);
    expect(faultsOf('{{fields.a}}', new Map())[0]?.message).toContain('set are none');
  });

  it('nothing is thrown whatever the source', () => {
    const token = fc.constantFrom('{{', '}}', '{', '}', 'contact', '.', 'name', 'attributes', 'fields', ' ', '\0', 'a');
    const source = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(token, { maxLength: 30 }).map((tokens) => tokens.join('')),
    );
    fc.assert(
      fc.property(source, (text) => {
        const result = compileTemplate(text);
        if (result.ok) expect(typeof fillTemplate(result.template, exampleFacts)).toBe('string');
        else expect(result.faults.length).toBeGreaterThan(0);
      }),
    );
  });
});
