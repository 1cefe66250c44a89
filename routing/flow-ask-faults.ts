import { faultOfPattern } from './condition.ts';
import { foldText } from './words.ts';
import { conditionFaults, templateFaults, type StepScope } from './flow-expression-faults.ts';
import { teamFaults, type FlowFault } from './flow-faults.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';
import { MAX_ANSWER_PATTERN_CHARS, MAX_CHOICES, MAX_SYNONYMS } from './step-schemas.ts';

/** What a schema cannot tell about a step that asks the contact. */
export function askFaults(path: string, step: unknown, scope: StepScope): FlowFault[] {
  return [
    ...templateFaults(`${path}/text`, valueAt(step, '/text'), scope),
    ...templateFaults(`${path}/retryText`, valueAt(step, '/retryText'), scope),
    ...freeAnswerFaults(path, step, scope),
    ...choiceFaults(path, step),
    ...giveUpFaults(`${path}/giveUp`, valueAt(step, '/giveUp'), scope),
  ];
}

function freeAnswerFaults(path: string, step: unknown, scope: StepScope): FlowFault[] {
  const hasChoices = valueAt(step, '/choices') !== undefined;
  const unused = ['pattern', 'test'].filter((member) => hasChoices && valueAt(step, `/${member}`) !== undefined);
  const pattern = valueAt(step, '/pattern');
  const patternFault =
    typeof pattern === 'string' && pattern.length <= MAX_ANSWER_PATTERN_CHARS ? faultOfPattern(pattern) : null;
  return [
    ...unused.map((member) => ({
      path: `${path}/${member}`,
      message: 'is not looked at where there are choices',
      mend: 'Remove it, or the choices.',
    })),
    ...(patternFault === null
      ? []
      : [{ path: `${path}/pattern`, message: patternFault, mend: 'Correct the pattern, which is an RE2 expression.' }]),
    ...conditionFaults(`${path}/test`, valueAt(step, '/test'), { for: 'answer', ...scope }),
  ];
}

/** An answer must lead to one choice: what one of them goes by, no other may. */
function choiceFaults(path: string, step: unknown): FlowFault[] {
  const firstWithWord = new Map<string, { index: number; path: string }>();
  return itemsAt(step, '/choices', MAX_CHOICES).flatMap(([choicePath, choice], index) =>
    wordsOf(choice).flatMap(([wordPath, word]): FlowFault[] => {
      const wholePath = `${path}${choicePath}${wordPath}`;
      const folded = foldText(word);
      if (folded === '' && word !== '' && wordPath !== '/value') {
        const mend = 'Give a text with letters, digits or signs.';
        return [{ path: wholePath, message: 'is nothing that a contact could answer', mend }];
      }
      const first = firstWithWord.get(folded);
      if (first === undefined) firstWithWord.set(folded, { index, path: wholePath });
      if (first === undefined || first.index === index) return [];
      const message = 'stands for another choice too, at';
      return [{ path: wholePath, message, at: first.path, mend: 'Give each choice words of its own.' }];
    }),
  );
}

function wordsOf(choice: unknown): [path: string, word: string][] {
  const value = valueAt(choice, '/value');
  const words: [string, unknown][] = [
    ['/label', valueAt(choice, '/label')],
    ['/value', typeof value === 'number' || typeof value === 'boolean' ? String(value) : value],
    ...itemsAt(choice, '/synonyms', MAX_SYNONYMS),
  ];
  return words.filter((word): word is [string, string] => typeof word[1] === 'string');
}

const ENDS = ['value', 'teamId', 'close'] as const;

function giveUpFaults(path: string, giveUp: unknown, scope: StepScope): FlowFault[] {
  if (!isObject(giveUp)) return [];
  const ends = ENDS.filter((end) => Object.hasOwn(giveUp, end));
  const faults = [
    ...teamFaults(`${path}/teamId`, giveUp['teamId'], scope.teamIds),
    ...templateFaults(`${path}/text`, giveUp['text'], scope),
  ];
  if (ends.length > 1) {
    const message = `does several things: ${ends.join(', ')}`;
    faults.push({ path, message, mend: `Give at most one of ${ENDS.join(', ')}.` });
  }
  if (Object.hasOwn(giveUp, 'priority') && !ends.includes('teamId')) {
    const message = 'counts only beside teamId';
    faults.push({ path: `${path}/priority`, message, mend: 'Remove it, or add a teamId.' });
  }
  return faults;
}
