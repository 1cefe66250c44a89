import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { validateFlow } from '../../routing/flow-document.ts';

const TEAM = '0198a5b0-0000-7000-8000-000000000001';
const OTHER_TEAM = '0198a5b0-0000-7000-8000-000000000002';
const THIRD_TEAM = '0198a5b0-0000-7000-8000-000000000003';
const UNKNOWN_TEAM = '0198a5b0-0000-7000-8000-000000000009';
const known = { teamIds: new Set([TEAM, OTHER_TEAM, THIRD_TEAM]), skills: new Set(['spanish']) };

/** Every kind of step and of destination, with every member. */
function example(): any {
  return {
    trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact' && hours.office.open" },
    hours: {
      office: {
        timeZone: 'Europe/Berlin',
        weekly: { monday: [{ from: '09:00', to: '12:00' }], friday: [{ from: '13:00', to: '24:00' }] },
        holidays: [{ date: '2026-12-25' }, { date: '2026-12-24', open: [{ from: '09:00', to: '12:00' }] }],
      },
    },
    enrichment: [
      { kind: 'set', field: 'tier', value: 'basic' },
      { kind: 'language', field: 'language', confidenceField: 'sureness', minConfidence: 0.5, otherwise: 'en' },
      { kind: 'contact', fields: { name: 'name', earlier: 'conversationCount', plan: 'attributes/plan' } },
      {
        kind: 'ask',
        when: "fields.tier == 'basic' && fields.sureness > 0.5",
        field: 'purpose',
        text: 'Hello {{contact.name}}, sales or support?',
        choices: [
          { value: 'sales', label: 'Sales', synonyms: ['buy', 'offer'] },
          { value: 'support', label: 'Support' },
        ],
        retryText: 'Please choose, {{ contact.name }}.',
        maxQuestions: 3,
        timeoutSeconds: 600,
        settleSeconds: 3,
        giveUp: { teamId: OTHER_TEAM, priority: 5, text: 'Somebody will look at it.' },
      },
      {
        kind: 'ask',
        field: 'orders',
        text: 'Which order?',
        pattern: '^[0-9]+$',
        test: "answer != '0' && fields.purpose == 'sales'",
        timeoutSeconds: 60,
        giveUp: { value: 'none' },
      },
      {
        kind: 'http',
        when: 'hours.office.open',
        method: 'POST',
        url: 'https://crm.example/{{contact.id}}?order={{fields.orders}}',
        headers: { 'X-Plan': '{{fields.plan}}', Authorization: { secret: 'crm' } },
        body: { order: '{{fields.orders}}', list: [1, true, null, { deep: '{{message.text}}' }] },
        timeoutMs: 1000,
        retries: 1,
        onFailure: 'fallBack',
        fields: { debt: '/debt' },
      },
      {
        kind: 'classify',
        field: 'topic',
        labels: [{ label: 'invoice', description: 'Money' }, { label: 'login' }],
        instructions: 'Read it.',
        minConfidence: 0.7,
        otherwise: 'other',
        timeoutMs: 5000,
        maxTokens: 50,
      },
    ],
    routing: {
      branches: [
        {
          name: 'Closed',
          when: '!hours.office.open',
          close: true,
          text: 'We are closed, {{contact.name}}.',
          webhookUrl: 'https://hooks.example/closed',
        },
        {
          name: 'Busy',
          when: 'team.waiting > 10 && fields.debt > 5',
          teamId: TEAM,
          priority: 10,
          slaSeconds: 60,
          text: 'It may take long.',
          requirements: [{ skillFromField: 'language', level: 2 }],
          rings: [
            { afterSeconds: 10, overflowTeamId: OTHER_TEAM },
            { afterSeconds: 60, fallback: 'close', text: 'Bye {{fields.name}}', webhookUrl: 'https://hooks.example/x' },
          ],
        },
        {
          name: 'Shared',
          when: "fields.topic == 'invoice'",
          split: [
            { percent: 30, teamId: TEAM },
            { percent: 70, teamId: OTHER_TEAM },
          ],
        },
      ],
      otherwise: { teamId: TEAM, priority: 0 },
    },
  };
}

function changed(change: (flow: any) => void): any {
  const flow = example();
  change(flow);
  return flow;
}

function faultsOf(document: unknown) {
  const result = validateFlow(document, known);
  return result.ok ? [] : result.faults;
}

it('accepts every member that a flow can have', () => {
  expect(validateFlow(example(), known)).toEqual({ ok: true, flow: example() });
});

const ask = (flow: any) => flow.enrichment[3];
const freeAsk = (flow: any) => flow.enrichment[4];
const http = (flow: any) => flow.enrichment[5];
const busy = (flow: any) => flow.routing.branches[1];
const shared = (flow: any) => flow.routing.branches[2];
const nested = (levels: number): unknown => (levels === 0 ? 1 : { a: nested(levels - 1) });

describe('names each fault, and nothing else', () => {
  it.each<[string, RegExp, (flow: any) => void]>([
    // Conditions, by what is known where they stand.
    ['/trigger/condition', /fields.*\(at character 1\)/, (flow) => (flow.trigger.condition = "fields.tier == 'x'")],
    ['/trigger/condition', /shop/, (flow) => (flow.trigger.condition = 'hours.shop.open')],
    ['/enrichment/1/when', /purpose/, (flow) => (flow.enrichment[1].when = "fields.purpose == 'sales'")],
    ['/enrichment/3/when', /answer/, (flow) => (ask(flow).when = "answer == 'x'")],
    ['/enrichment/3/when', /at character 13/, (flow) => (ask(flow).when = "fields.tier + 1 == 'x'")],
    ['/enrichment/4/test', /topic/, (flow) => (freeAsk(flow).test = 'fields.topic == answer')],
    ['/routing/branches/0/when', /team/, (flow) => (flow.routing.branches[0].when = 'team.waiting > 1')],
    ['/routing/branches/2/when', /team/, (flow) => (shared(flow).when = 'team.waiting > 1')],
    ['/routing/branches/2/when', /nowhere/, (flow) => (shared(flow).when = 'fields.nowhere == 1')],
    ['/routing/branches/1/when', /\(at character/, (flow) => (busy(flow).when = 'team.waiting > "many"')],
    // Templates.
    [
      '/enrichment/3/text',
      /unknown name "customer.name".*at character 7/,
      (f) => (ask(f).text = 'Hello {{customer.name}}'),
    ],
    ['/enrichment/3/retryText', /not closed/, (flow) => (ask(flow).retryText = 'Hello {{contact.name')],
    ['/enrichment/3/giveUp/text', /"purpose"/, (flow) => (ask(flow).giveUp.text = '{{fields.purpose}}')],
    ['/enrichment/5/url', /"topic"/, (flow) => (http(flow).url = 'https://crm.example/{{fields.topic}}')],
    ['/enrichment/5/headers/X-Plan', /unknown name/, (flow) => (http(flow).headers['X-Plan'] = '{{plan}}')],
    ['/enrichment/5/body/list/3/deep', /unknown name/, (flow) => (http(flow).body.list[3].deep = '{{text}}')],
    ['/routing/branches/0/text', /unknown name/, (flow) => (flow.routing.branches[0].text = '{{team.waiting}}')],
    ['/routing/branches/1/rings/1/text', /"nowhere"/, (flow) => (busy(flow).rings[1].text = '{{fields.nowhere}}')],
    // Hours.
    ['/hours/office/timeZone', /time zone/, (flow) => (flow.hours.office.timeZone = 'Europe/Atlantis')],
    ['/hours/office/weekly/monday/0', /ends before/, (flow) => (flow.hours.office.weekly.monday[0].to = '08:00')],
    ['/hours/office/weekly/monday/0/to', /no time of day/, (flow) => (flow.hours.office.weekly.monday[0].to = '25:00')],
    ['/hours/office/weekly/sonntag', /not known/, (flow) => (flow.hours.office.weekly.sonntag = [])],
    ['/hours/office/holidays/0/date', /calendar/, (flow) => (flow.hours.office.holidays[0].date = '2026-02-30')],
    ['/hours/office/holidays', /366/, (flow) => (flow.hours.office.holidays = manyDays(367))],
    ['/hours/The Office', /no field name/, (flow) => (flow.hours['The Office'] = flow.hours.office)],
    // Questions.
    ['/enrichment/3/pattern', /where there are choices/, (flow) => (ask(flow).pattern = 'a')],
    ['/enrichment/3/test', /where there are choices/, (flow) => (ask(flow).test = "answer == 'a'")],
    ['/enrichment/3/choices/1/label', /another choice.*/, (flow) => (ask(flow).choices[1].label = 'Óffer')],
    ['/enrichment/3/choices/1/value', /another choice/, (flow) => (ask(flow).choices[1].value = 'sales')],
    ['/enrichment/3/choices/1/synonyms/0', /another choice/, (flow) => (ask(flow).choices[1].synonyms = [' SALES'])],
    ['/enrichment/3/choices/0/synonyms/0', /could answer/, (flow) => (ask(flow).choices[0].synonyms = ['\u0301'])],
    ['/enrichment/3/choices', /20/, (flow) => (ask(flow).choices = manyChoices(21))],
    ['/enrichment/4/pattern', /parse|missing|pattern/i, (flow) => (freeAsk(flow).pattern = '(')],
    ['/enrichment/3/giveUp', /several things: value, teamId/, (flow) => (ask(flow).giveUp.value = 'sales')],
    ['/enrichment/3/giveUp/teamId', /no team/, (flow) => (ask(flow).giveUp.teamId = UNKNOWN_TEAM)],
    ['/enrichment/4/giveUp/priority', /beside teamId/, (flow) => (freeAsk(flow).giveUp.priority = 1)],
    ['/enrichment/3/maxQuestions', /5/, (flow) => (ask(flow).maxQuestions = 6)],
    ['/enrichment/3/text', /blank/, (flow) => (ask(flow).text = ' ')],
    // Other steps.
    ['/enrichment/1/confidenceField', /language too/, sameField],
    ['/enrichment/2/fields/plan', /nothing that is known/, (flow) => (flow.enrichment[2].fields.plan = 'shoe')],
    ['/enrichment/2/fields/Plan', /no field name/, (flow) => (flow.enrichment[2].fields.Plan = 'name')],
    ['/enrichment/6/labels/1/label', /also the label/, (flow) => (flow.enrichment[6].labels[1].label = 'Invoice')],
    ['/enrichment/5/url', /no web address/, (flow) => (http(flow).url = 'https://{{contact.name}}.example/')],
    ['/enrichment/5/headers/Host', /by Switchyard/, (flow) => (http(flow).headers.Host = 'x')],
    ['/enrichment/5/headers/Content-Length', /by Switchyard/, (flow) => (http(flow).headers['Content-Length'] = '1')],
    ...['Accept-Encoding', 'Expect', 'TE', 'Upgrade', 'Trailer', 'Keep-Alive', 'Proxy-Authorization'].map(
      (name): [string, RegExp, (flow: any) => void] => [
        `/enrichment/5/headers/${name}`,
        /by Switchyard/,
        (flow) => (http(flow).headers[name] = 'x'),
      ],
    ),
    [
      '/enrichment/5/headers/Authorization',
      /https only/,
      (flow) => (http(flow).url = 'http://crm.example/{{contact.id}}'),
    ],
    ['/enrichment/5/headers/a b', /no name of a header/, (flow) => (http(flow).headers['a b'] = 'x')],
    ['/enrichment/5/headers/X-Plan', /cannot hold/, (flow) => (http(flow).headers['X-Plan'] = 'a\r\nHost: b')],
    ['/enrichment/5/headers/X-Plan', /no value of a header/, (flow) => (http(flow).headers['X-Plan'] = 1)],
    ['/enrichment/5/headers/x-plan', /also the header/, (flow) => (http(flow).headers['x-plan'] = 'b')],
    ['/enrichment/5/body', /not sent with GET/, (flow) => (http(flow).method = 'GET')],
    ['/enrichment/5/body', /deeper than 10/, (flow) => (http(flow).body = nested(11))],
    ['/enrichment/5/body', /deeper than 10/, (flow) => (http(flow).body = nested(5_000))],
    ['/enrichment/5/body', /characters as JSON/, (flow) => (http(flow).body = 'x'.repeat(16_384))],
    ['/enrichment/5/body/a\0', /cannot be stored/, (flow) => (http(flow).body = { 'a\0': 1 })],
    ['/enrichment/5/body/a', /cannot be stored/, (flow) => (http(flow).body = { a: '\ud800' })],
    // Destinations.
    ['/routing/branches/2', /leads nowhere/, (flow) => delete shared(flow).split],
    ['/routing/branches/2', /several places: split, close/, (flow) => (shared(flow).close = true)],
    ['/routing/branches/2/split', /90 %/, (flow) => (shared(flow).split[0].percent = 20)],
    ['/routing/branches/2/split/0/teamId', /no team/, (flow) => (shared(flow).split[0].teamId = UNKNOWN_TEAM)],
    ['/routing/branches/2/split/1/teamId', /share already/, (flow) => (shared(flow).split[1].teamId = TEAM)],
    ['/routing/branches/2/split', /2/, (flow) => (shared(flow).split = [{ percent: 99, teamId: TEAM }])],
    ['/routing/branches/2/rings/0/overflowTeamId', /circle/, (flow) => (shared(flow).rings = overflowTo(OTHER_TEAM))],
    ['/routing/branches/0/priority', /no meaning/, (flow) => (flow.routing.branches[0].priority = 1)],
    ['/routing/branches/0/slaSeconds', /no meaning/, (flow) => (flow.routing.branches[0].slaSeconds = 1)],
    ['/routing/branches/0/rings', /no meaning/, (flow) => (flow.routing.branches[0].rings = overflowTo(TEAM))],
    ['/routing/branches/0/close', /allowed/, (flow) => (flow.routing.branches[0].close = false)],
    ['/routing/branches/0/webhookUrl', /no web address/, (flow) => (flow.routing.branches[0].webhookUrl = 'x')],
    ['/routing/branches/1/rings/0/text', /beside fallback/, (flow) => (busy(flow).rings[0].text = 'x')],
    [
      '/routing/branches/1/rings/0/webhookUrl',
      /beside fallback/,
      (flow) => (busy(flow).rings[0].webhookUrl = 'https://hooks.example/x'),
    ],
    [
      '/routing/branches/1/requirements/0/skillFromField',
      /no step sets/,
      (flow) => (busy(flow).requirements[0].skillFromField = 'nowhere'),
    ],
  ])('%s %s', (path, message, change) => {
    const faults = faultsOf(changed(change));
    expect(faults.map((fault) => fault.path)).toEqual([path]);
    expect(faults[0]?.message).toMatch(message);
    expect(faults[0]?.mend).toMatch(/\.$/);
  });

  function sameField(flow: any) {
    flow.enrichment[1].confidenceField = 'language';
    delete ask(flow).when;
  }

  function overflowTo(overflowTeamId: string) {
    return [
      { afterSeconds: 1, overflowTeamId },
      { afterSeconds: 2, fallback: 'wait' },
    ];
  }

  function manyChoices(count: number) {
    return Array.from({ length: count }, (_, index) => ({ value: `v${index}`, label: `Label ${index}` }));
  }

  function manyDays(count: number) {
    const dayOf = (index: number) => new Date(Date.UTC(2026, 0, 1 + index)).toISOString().slice(0, 10);
    return Array.from({ length: count }, (_, index) => ({ date: dayOf(index) }));
  }
});

it('blames nobody for a field whose step has a fault itself', () => {
  const broken = changed((flow) => (flow.enrichment[6].timeoutMs = 0));
  expect(faultsOf(broken).map(({ path }) => path)).toEqual(['/enrichment/6/timeoutMs']);
  const unknownKind = changed((flow) => (flow.enrichment[6] = { kind: 'guess', field: 'topic' }));
  expect(faultsOf(unknownKind).map(({ path }) => path)).toEqual(['/enrichment/6/kind']);
});

it('finds the faults of all places at once', () => {
  const paths = faultsOf(
    changed((flow) => {
      flow.trigger.condition = 'hours.shop.open';
      flow.hours.office.timeZone = 'Mars/Base';
      ask(flow).text = '{{nobody}}';
      http(flow).headers.Host = 'x';
      shared(flow).split[0].percent = 20;
      busy(flow).when = 'team.size > 1';
      busy(flow).rings[1].text = '{{';
    }),
  ).map(({ path }) => path);
  expect(paths).toEqual([
    '/trigger/condition',
    '/hours/office/timeZone',
    '/enrichment/3/text',
    '/enrichment/5/headers/Host',
    '/routing/branches/1/when',
    '/routing/branches/1/rings/1/text',
    '/routing/branches/2/split',
  ]);
});

describe('whatever somebody puts into a flow', () => {
  /** Of every object and list in the document, and the names of what it holds. */
  function placesIn(value: unknown, path: readonly string[] = []): (readonly string[])[] {
    if (typeof value !== 'object' || value === null) return [path];
    return [path, ...Object.entries(value).flatMap(([name, member]) => placesIn(member, [...path, name]))];
  }

  const places = placesIn(example()).filter((path) => path.length > 0);

  function put(flow: any, path: readonly string[], value: unknown): void {
    let owner = flow;
    for (const name of path.slice(0, -1)) {
      if (typeof owner !== 'object' || owner === null) return;
      owner = owner[name];
    }
    if (typeof owner === 'object' && owner !== null) owner[path.at(-1)!] = value;
  }

  it('is refused or accepted without a throw, with few and short faults that name a place', () => {
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom('{{', 'fields.x', '', -1, [], {}, 'x'.repeat(5000)),
    );
    const change = fc.tuple(fc.constantFrom(...places), value);
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const document = changed((flow) => {
          for (const [path, other] of changes) put(flow, path, structuredClone(other));
        });
        for (const { path, message, mend } of faultsOf(document)) {
          expect(path).toMatch(/^\/(trigger|hours|enrichment|routing)/);
          expect(message).not.toBe('');
          expect(mend).toMatch(/\.$/);
          expect(message.length + mend.length).toBeLessThan(1500);
        }
      }),
      { numRuns: 300 },
    );
  });
});
