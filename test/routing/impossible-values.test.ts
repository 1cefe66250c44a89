import { expect, test } from 'vitest';
import { findImpossibleValues } from '../../routing/impossible-values.ts';
import { validateFlow } from '../../routing/flow-document.ts';
import type { FlowDocument } from '../../routing/flow-schema.ts';

const teamId = '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11';

/** A flow without faults, as only such are asked about. */
function flowOf(enrichment: object[], ...conditions: string[]): FlowDocument {
  const branches = conditions.map((when, place) => ({ name: `B${place}`, when, teamId }));
  const document = { enrichment, routing: { branches, otherwise: { teamId } } };
  const validated = validateFlow(document, { teamIds: new Set([teamId]), skills: new Set() });
  if (!validated.ok) throw new Error(JSON.stringify(validated.faults));
  return validated.flow;
}

const ask = {
  kind: 'ask',
  field: 'purpose',
  text: 'What is it about?',
  timeoutSeconds: 60,
  choices: [
    { value: 'sales', label: 'Sales' },
    { value: 'support', label: 'Support' },
  ],
};

test('a text that no step gives the field is told, with those that it can be', () => {
  const told = ['Branch “B1”: `fields.purpose` is never "suport"; it can be "sales", "support".'];
  for (const condition of [
    "fields.purpose == 'suport'",
    "'suport' == fields.purpose",
    "message.text != '' && !(has(fields.purpose) && fields.purpose == 'suport')",
  ]) {
    expect(findImpossibleValues(flowOf([ask], "fields.purpose == 'sales'", condition)), condition).toEqual(told);
  }
  expect(findImpossibleValues(flowOf([ask], "fields.purpose == 'sales'", "fields.purpose == 'support'"))).toEqual([]);
});

test('what every kind of step with written-out values can give is possible', () => {
  const steps: [object, string[]][] = [
    [{ ...ask, giveUp: { value: 'none' } }, ['sales', 'support', 'none']],
    [{ kind: 'set', field: 'purpose', value: 'fixed' }, ['fixed']],
    [
      { kind: 'keywords', field: 'purpose', rules: [{ value: 'bill', keywords: ['invoice'] }], otherwise: 'rest' },
      ['bill', 'rest'],
    ],
    [
      {
        ...{ kind: 'classify', field: 'purpose', timeoutMs: 1000, otherwise: 'unsure' },
        labels: [{ label: 'one' }, { label: 'two' }],
      },
      ['one', 'two', 'unsure'],
    ],
  ];
  for (const [step, values] of steps) {
    for (const value of values)
      expect(findImpossibleValues(flowOf([step], `fields.purpose == '${value}'`))).toEqual([]);
    expect(findImpossibleValues(flowOf([step], "fields.purpose == 'x'"))).toEqual([
      `Branch “B0”: \`fields.purpose\` is never "x"; it can be ${values.map((value) => `"${value}"`).join(', ')}.`,
    ]);
  }
  const all = steps.map(([step]) => step);
  for (const value of steps.flatMap(([, values]) => values)) {
    expect(findImpossibleValues(flowOf(all, `fields.purpose == '${value}'`)), value).toEqual([]);
  }
});

test('where one step leaves the value open, nothing is told', () => {
  for (const open of [
    { kind: 'ask', field: 'purpose', text: 'What?', timeoutSeconds: 60 },
    { kind: 'language', field: 'purpose' },
    { kind: 'contact', fields: { purpose: 'lastCategory' } },
    { kind: 'http', url: 'https://crm.example.com/', timeoutMs: 1000, fields: { purpose: '/purpose' } },
  ]) {
    expect(findImpossibleValues(flowOf([ask, open], "fields.purpose == 'suport'")), open.kind).toEqual([]);
  }
});

test('a condition that does not compile any more says nothing', () => {
  const flow = flowOf([ask], "fields.purpose == 'suport'");
  const [branch] = flow.routing.branches;
  for (const when of [
    "fields.purpose == 'suport' &&",
    `${'('.repeat(500)}fields.purpose == 'suport'${')'.repeat(500)}`,
  ]) {
    const branches = [{ ...branch!, when }];
    expect(findImpossibleValues({ ...flow, routing: { ...flow.routing, branches } })).toEqual([]);
  }
});

test('a step is judged by those before it, and other comparisons are left alone', () => {
  const later = { kind: 'set', field: 'late', value: true, when: "fields.purpose == 'suport'" };
  expect(findImpossibleValues(flowOf([ask, later, { ...later, field: 'later' }]))).toEqual([
    expect.stringMatching(/^Step 2: `fields\.purpose` is never "suport"/),
  ]);
  const overwritten = { kind: 'set', field: 'purpose', value: 'suport' };
  expect(findImpossibleValues(flowOf([ask, later, overwritten]))).toHaveLength(1);
  for (const condition of [
    "fields.purpose != 'suport'",
    "contact.name == 'suport'",
    "fields.purpose.startsWith('suport')",
    "['suport'].exists(word, fields.purpose == word)",
  ]) {
    expect(findImpossibleValues(flowOf([ask], condition)), condition).toEqual([]);
  }
});
