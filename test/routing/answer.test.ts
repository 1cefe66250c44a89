import { describe, expect, it } from 'vitest';
import { MAX_ANSWER_MESSAGES, matchAnswer } from '../../routing/answer.ts';
import { compileFlow } from '../../routing/compiled-flow.ts';
import { bindFacts } from '../../routing/condition.ts';
import type { AskStep } from '../../routing/step-schemas.ts';
import { exampleFacts } from './example-facts.ts';

const teamId = '00000000-0000-0000-0000-000000000001';

function answerTo(members: Partial<AskStep>, ...texts: string[]) {
  const step: AskStep = { kind: 'ask', field: 'found', text: 'What?', timeoutSeconds: 60, ...members };
  const [compiled] = compileFlow({
    trigger: { on: 'conversation.opened', condition: 'true' },
    enrichment: [step],
    routing: { branches: [], otherwise: { teamId } },
  }).steps;
  return matchAnswer(step, texts, {
    pattern: compiled!.pattern,
    test: compiled!.test,
    bind: (answer) => bindFacts(exampleFacts, { answer }),
  });
}

const fitting = (value: unknown) => ({ fits: true, value });
const unfit = { fits: false };

describe('choices', () => {
  const choices = [
    { value: 'sales', label: 'Buy something', synonyms: ['sales', 'order', '🛒'] },
    { value: 'support', label: 'Get help', synonyms: ['support', 'помощь'] },
    { value: 'account', label: 'My account' },
  ];

  it.each([
    ['Buy something', 'sales'],
    ['  BUY   SOMETHING! ', 'sales'],
    ['support.', 'support'],
    ['Помощь', 'support'],
    ['account', 'account'],
    ['2', 'support'],
    ['2.', 'support'],
    ['(2)', 'support'],
    ['２', 'support'],
    ['🛒', 'sales'],
    ['I would like to order a lamp', 'sales'],
    ['can you get help for me', 'support'],
  ])('%s is %s', (text, value) => {
    expect(answerTo({ choices }, text)).toEqual(fitting(value));
  });

  it.each(['', '   ', '👍', '0', '4', '12', '22', 'reorder', 'hello', 'sales or support?', 'I have 2 lamps', '2 3'])(
    '%j is none',
    (text) => {
      expect(answerTo({ choices }, text)).toEqual(unfit);
    },
  );

  it('no message at all is none', () => {
    expect(answerTo({ choices })).toEqual(unfit);
  });

  it('several messages are one answer: the last that is a choice decides', () => {
    expect(answerTo({ choices }, 'hi', '1', 'no, wait', '2', 'please')).toEqual(fitting('support'));
    expect(answerTo({ choices }, 'hi there', 'I need some', 'help', 'with my account')).toEqual(fitting('account'));
    expect(answerTo({ choices }, 'something to order', 'or get help')).toEqual(unfit);
  });

  it('what comes after the first ten messages is no part of the answer', () => {
    const chat = Array.from({ length: MAX_ANSWER_MESSAGES - 1 }, () => 'well');
    expect(answerTo({ choices }, ...chat, 'support', '1')).toEqual(fitting('support'));
    expect(answerTo({ choices }, ...chat, 'well', 'support')).toEqual(unfit);
    expect(answerTo({}, ...chat, 'end', 'more')).toEqual(fitting([...chat, 'end'].join('\n')));
  });

  it('a value goes before the number of another choice, and keeps its type', () => {
    const stars = [5, 4, 3, 2, 1].map((value) => ({ value, label: `${value} stars` }));
    expect(answerTo({ choices: stars }, '5')).toEqual(fitting(5));
    expect(
      answerTo(
        {
          choices: [
            { value: true, label: 'Yes' },
            { value: false, label: 'No' },
          ],
        },
        'no!',
      ),
    ).toEqual(fitting(false));
    expect(
      answerTo(
        {
          choices: [
            { value: 1, label: 'one' },
            { value: -1, label: 'minus' },
          ],
        },
        '-1',
      ),
    ).toEqual(fitting(-1));
  });
});

describe('free answers', () => {
  it('take any text, trimmed, cut and fit to be stored', () => {
    expect(answerTo({}, ' it is 4711 ', 'thanks')).toEqual(fitting('it is 4711\nthanks'));
    expect(answerTo({}, `a\0b\ud800`)).toEqual(fitting('a\ufffdb\ufffd'));
    expect(answerTo({}, 'x'.repeat(5000))).toEqual(fitting('x'.repeat(1000)));
    expect(answerTo({}, '42')).toEqual(fitting('42'));
  });

  it.each([[[]], [['']], [[' \n ', '\t']]])('%j is none', (texts) => {
    expect(answerTo({}, ...texts)).toEqual(unfit);
  });

  it('must match the pattern, together or one of them', () => {
    const pattern = '^[0-9]{4}$';
    expect(answerTo({ pattern }, '4711')).toEqual(fitting('4711'));
    expect(answerTo({ pattern }, 'hello', '4711', 'thanks')).toEqual(fitting('4711'));
    expect(answerTo({ pattern }, '4711', 'no, 4712')).toEqual(fitting('4711'));
    expect(answerTo({ pattern }, '1111', '2222')).toEqual(fitting('2222'));
    expect(answerTo({ pattern }, '47 11')).toEqual(unfit);
  });

  it('must pass the test, which may look at what is known', () => {
    const test = "answer.startsWith(fields.purpose) && answer != 'billing'";
    expect(answerTo({ test }, 'billing 7')).toEqual(fitting('billing 7'));
    expect(answerTo({ test }, 'billing')).toEqual(unfit);
    expect(answerTo({ test, pattern: '[0-9]' }, 'billing x')).toEqual(unfit);
  });

  it('do not fit where the test cannot be decided, and say why', () => {
    expect(answerTo({ test: 'fields.absent == answer' }, 'a')).toEqual({
      fits: false,
      error: expect.stringContaining('absent'),
    });
  });

  it('fit no pattern that does not compile', () => {
    expect(answerTo({ pattern: '(' }, 'a')).toEqual(unfit);
  });
});
