import { expect, test } from 'vitest';
import { DocumentedDocument, flowJsonSchema } from '../../api/flow-document-schema.ts';
import { validateFlow } from '../../routing/flow-document.ts';

/** Every text in it that has the shape of an id. */
const idsIn = (value: unknown) => JSON.stringify(value).match(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g) ?? [];

test('the examples of the document are flows that could be published, and show every kind of step', () => {
  const kinds = DocumentedDocument.examples.flatMap((example) => {
    const validated = validateFlow(example, { teamIds: new Set(idsIn(example)), skills: new Set() });
    expect(validated).toMatchObject({ ok: true });
    return example.enrichment.map(({ kind }) => kind);
  });
  expect(new Set(kinds)).toEqual(new Set(['set', 'keywords', 'language', 'contact', 'ask', 'http', 'classify']));
});

test('the JSON Schema is plain JSON that says the same, without members that are ours alone', () => {
  const schema = flowJsonSchema();
  expect(JSON.parse(JSON.stringify(schema))).toEqual(schema);
  expect(schema).toMatchObject({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    required: ['routing'],
    additionalProperties: false,
  });
  expect(JSON.stringify(schema)).not.toMatch(/"(fault|mend|names)":/);
});
