/**
 * The system's way from a name to its addresses occupies one of the process's four threads for files, names and ciphers until the resolver gives
 * up, which may be half a minute, long after the request that asked has ended. So only a few names are looked up at a time, and the others wait
 * their turn, within the time limit of whoever asks. Who asks for a name that is being looked up already gets the same answer: a name that nobody
 * answers for takes one place, however many requests want it.
 *
 * Names are many people's, and those whose servers are away must not hold up the rest. So the places are shared out by what a name did the last
 * time: those that were slow have one place together, and with those that nobody knows yet all places but one. The last is for names that were
 * quick: however many names one makes up, those are held up only by others that were quick until now, and by each of these once. Names that nobody
 * knows yet, as all are at the start, can be held up by two others of the kind, for as long as the resolver takes.
 */
import type { LookupFunction } from 'node:net';

/** Bounds `lookup` to so many names at a time. What nobody wants any more when its turn comes is dropped, and its callback never called. */
export function createBoundedLookup(lookup: LookupFunction, maxUnderWay: number): BoundedLookup {
  const questions = new Map<string, Question>();
  const pasts = createPasts();
  const underWay: Record<Past, number> = { quick: 0, unknown: 0, slow: 0 };

  function hasPlace(past: Past): boolean {
    const others = underWay.slow + underWay.unknown;
    if (others + underWay.quick >= maxUnderWay) return false;
    if (past === 'slow' && underWay.slow > 0) return false;
    return past === 'quick' || others < maxUnderWay - 1;
  }

  function beginNext(): void {
    for (const [key, question] of questions) {
      if (question.isUnderWay) continue;
      if (!question.askers.some(({ isWanted }) => isWanted())) questions.delete(key);
      else if (hasPlace(pasts.read(question.name))) begin(key, question);
    }
  }

  function begin(key: string, question: Question): void {
    const { name, askers } = question;
    const past = pasts.read(name);
    const startedAt = performance.now();
    question.isUnderWay = true;
    underWay[past] += 1;
    lookup(name, question.options, (...answer) => {
      underWay[past] -= 1;
      pasts.write(name, { failed: answer[0] !== null, tookMs: performance.now() - startedAt });
      questions.delete(key);
      beginNext();
      for (const { callback } of askers) callback(...answer);
    });
  }

  return (hostname, options, asker) => {
    const name = hostname.toLowerCase();
    const key = JSON.stringify([name, options.family, options.hints, options.all]);
    const question = questions.get(key);
    if (question === undefined) questions.set(key, { name, options, askers: [asker], isUnderWay: false });
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
  readonly name: string;
  readonly options: LookupOptions;
  readonly askers: Asker[];
  isUnderWay: boolean;
}

/** What a name's last lookup was. One that failed at once holds up nobody, but is no sign that the next will be quick. */
type Past = 'quick' | 'unknown' | 'slow';

const slowAfterMs = 1_000;
/** A few MB at most, as names have up to 253 characters. The name that was asked for the longest ago is forgotten first. */
const maxPasts = 10_000;

function createPasts() {
  const known = new Map<string, 'quick' | 'slow'>();
  return {
    read: (name: string): Past => known.get(name) ?? 'unknown',
    write(name: string, { failed, tookMs }: { failed: boolean; tookMs: number }): void {
      known.delete(name);
      if (tookMs >= slowAfterMs) known.set(name, 'slow');
      else if (!failed) known.set(name, 'quick');
      const [oldest] = known.keys();
      if (known.size > maxPasts && oldest !== undefined) known.delete(oldest);
    },
  };
}
