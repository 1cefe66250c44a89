/**
 * What single parts of a flow cost, in a process of its own: `fork` it. Says one `FlowParts`, and ends.
 */
import type { FlowDocument } from '../../routing/flow-schema.ts';
import { longFlow } from './long-flow.ts';

export interface FlowParts {
  /** Resident, of the table of languages. */
  readonly languageMiB: number;
  /** CPU, as the rest: of telling the language of one short message. */
  readonly languageUs: number;
  /** Of deciding by the long flow, the first time that a process does: its conditions are compiled then. */
  readonly firstDecisionMs: number;
  /** The same from then on. */
  readonly decisionUs: number;
}

process.send!(await measure());
process.disconnect();

async function measure(): Promise<FlowParts> {
  const before = process.memoryUsage.rss();
  const { detectLanguage } = await import('../../routing/language.ts');
  detectLanguage('Where is my parcel?');
  const languageMiB = (process.memoryUsage.rss() - before) / 1_048_576;
  const { decideRoute } = await import('../../routing/route.ts');
  const document = {
    trigger: { on: 'conversation.opened', condition: 'true' },
    ...longFlow('01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11'),
  } as FlowDocument;
  const facts = {
    conversation: { source: 'contact', priority: 0 },
    contact: { id: '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b12', name: 'Alice', attributes: {} },
    channel: { key: 'web', name: 'Web' },
    message: { text: 'Where is my parcel?' },
    fields: { origin: 'web', purpose: 'delivery', language: 'en', earlier: 3 },
    nowMs: Date.now(),
  } as const;
  const circumstances = { loads: new Map(), gaveUpStep: null };
  return {
    languageMiB,
    languageUs: 1_000 * cpuMsOf(2_000, () => detectLanguage(facts.message.text)),
    firstDecisionMs: cpuMsOf(50, () => decideRoute(structuredClone(document), facts, circumstances)),
    decisionUs: 1_000 * cpuMsOf(2_000, () => decideRoute(document, facts, circumstances)),
  };
}

/** Of one of so many, after as many that are not counted. */
function cpuMsOf(times: number, run: () => unknown): number {
  for (let time = 0; time < times; time += 1) run();
  const before = process.cpuUsage();
  for (let time = 0; time < times; time += 1) run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000 / times;
}
