/**
 * The system's way from a name to its addresses occupies one of the process's four threads for files, names and ciphers until the resolver gives
 * up, which may be half a minute, long after the request that asked has ended. So only a few names are looked up at a time, and the others wait
 * their turn, within the time limit of whoever asks. Who asks for a name that is being looked up already gets the same answer: a name that nobody
 * answers for takes one place, however many requests want it.
 */
import type { LookupFunction } from 'node:net';

/** Bounds `lookup` to so many names at a time. What nobody wants any more when its turn comes is dropped, and its callback never called. */
export function createBoundedLookup(lookup: LookupFunction, maxUnderWay: number): BoundedLookup {
  const questions = new Map<string, Question>();
  let underWay = 0;

  function beginNext(): void {
    for (const [key, question] of questions) {
      if (underWay >= maxUnderWay) return;
      if (question.isUnderWay) continue;
      if (question.askers.some(({ isWanted }) => isWanted())) begin(key, question);
      else questions.delete(key);
    }
  }

  function begin(key: string, question: Question): void {
    question.isUnderWay = true;
    underWay += 1;
    lookup(question.hostname, question.options, (...answer) => {
      underWay -= 1;
      questions.delete(key);
      beginNext();
      for (const { callback } of question.askers) callback(...answer);
    });
  }

  return (hostname, options, asker) => {
    const key = JSON.stringify([hostname.toLowerCase(), options.family, options.hints, options.all]);
    const question = questions.get(key);
    if (question === undefined) questions.set(key, { hostname, options, askers: [asker], isUnderWay: false });
    else question.askers.push(asker);
    beginNext();
  };
}

export type BoundedLookup = (hostname: string, options: LookupOptions, asker: Asker) => void;

type LookupOptions = Parameters<LookupFunction>[1];

interface Asker {
  readonly callback: Parameters<LookupFunction>[2];
  readonly isWanted: () => boolean;
}

interface Question {
  readonly hostname: string;
  readonly options: LookupOptions;
  readonly askers: Asker[];
  isUnderWay: boolean;
}
