/** Workflows that go wrong in each of the ways that the sandbox must bear. Bundled by workflow-sandbox.test.ts. */
import { ApplicationFailure, condition, defineQuery, defineSignal, log, setHandler, sleep } from '@temporalio/workflow';

export const goOnSignal = defineSignal('goOn');

/** Waits to be told, as an actor does, and says that it was. */
export async function patient(): Promise<string> {
  let told = false;
  setHandler(goOnSignal, () => {
    told = true;
  });
  await condition(() => told);
  return 'went on';
}

export async function failing(): Promise<void> {
  await sleep(1);
  await deeper();
}

async function deeper(): Promise<never> {
  throw ApplicationFailure.nonRetryable('the deepest reason', 'Deep');
}

export const toldQuery = defineQuery<number>('told');

/** Writes to its log when it begins, when it is asked, and at every second signal; then fails a task, having said so. */
export async function talkative(): Promise<void> {
  let told = 0;
  setHandler(goOnSignal, () => {
    told += 1;
    if (told % 2 === 1) log.error(`told ${told}`);
  });
  setHandler(toldQuery, () => {
    if (told === 1) log.warn('asked after the first');
    return told;
  });
  log.info('begins');
  await condition(() => told === 4);
  log.error('about to fail');
  throw new TypeError('fails the task');
}

/** Changes what is global in each of the ways there are, and tells at every signal what it then finds. */
export async function settling(name: string): Promise<string[]> {
  const home = globalThis as Record<string, unknown>;
  const found: string[] = [];
  const look = (): void => {
    const { mark, given, doubled, constructor, isNaN: replaced, escape } = home;
    const kinds = [constructor, replaced, escape].map((value) => typeof value);
    found.push([mark, given, doubled, ...kinds].map(String).join(' '));
  };
  let told = 0;
  setHandler(goOnSignal, () => {
    look();
    home['mark'] = `${name} ${(told += 1)}`;
  });
  look();
  home['mark'] = `${name} 0`;
  home['constructor'] = name;
  home['isNaN'] = name;
  delete home['escape'];
  Object.defineProperty(home, 'given', { configurable: true, get: () => name });
  Object.defineProperty(home, 'doubled', { configurable: true, get: () => `${name}${name}` });
  await condition(() => told === 3);
  return found;
}

/** A defect: fails the workflow task, which the server has repeated, and not the workflow. */
export async function defective(): Promise<void> {
  const nothing = undefined as unknown as { field: string };
  await Promise.resolve(nothing.field);
}

/** A promise that nobody awaits rejects. */
export async function careless(): Promise<void> {
  void Promise.reject(new Error('nobody awaits this'));
  await condition(() => false);
}

export async function endless(): Promise<void> {
  setHandler(goOnSignal, () => {
    for (;;);
  });
  await condition(() => false);
}
