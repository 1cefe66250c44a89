import type { History } from './history.ts';
import { countMostAtOnce, rules, type Evidence, type Fault } from './judge.ts';
import { formatPercentiles } from './percentile.ts';
import type { ScenarioResult } from './scenario.ts';
import { observeEveryMs } from './unloaded.ts';

const shownFaults = 20;

/** The end of the demo in words: what happened, how fast, and whether every promise was kept. */
export function summarize(run: {
  evidence: Evidence;
  history: History;
  result: ScenarioResult;
  faults: readonly Fault[];
  elapsedMs: number;
  languages: number;
}): string[] {
  const { evidence, history, result, elapsedMs, languages } = run;
  const { deliveries, contacts, events, agents } = evidence;
  const accepted = deliveries.filter(({ answers }) => answers.length > 0);
  const again = accepted.reduce((sum, { answers }) => sum + answers.length - 1, 0);
  const conversations = contacts.flatMap((contact) => contact.conversations);
  const byAgent = countMostAtOnce(events);
  const traces = [...history.conversations.values()];
  const times = (hasWaited: boolean) =>
    traces.flatMap((trace) =>
      trace.assignedAtMs === null || trace.hasWaited !== hasWaited ? [] : [trace.assignedAtMs - trace.openedAtMs],
    );
  const { recordedMs, observedMs } = result.unloaded;
  return [
    '',
    `Summary (${(elapsedMs / 1000).toFixed(1)} s)`,
    `  Contacts       ${contacts.length}, in ${languages} languages, on 2 channels`,
    `  Messages       ${accepted.length} accepted; ${again} deliveries came again; ${result.replies} replies`,
    `  Conversations  ${conversations.length}; at most ${history.mostWaiting} waited for an agent at once`,
    `  Agents         ${agents.map(({ id, name, capacity }) => `${name} at most ${byAgent.get(id) ?? 0} of ${capacity}`).join(', ')}`,
    '',
    `  Open→assigned, unloaded (${recordedMs.length} conversations of new contacts, one at a time)`,
    `    as the server recorded it, openedAt to assignedAt            ${formatPercentiles(recordedMs)}`,
    `    as a client saw it, POST answered to assigned (GET each ${observeEveryMs} ms)  ${formatPercentiles(observedMs)}`,
    '  Open→assigned, all conversations of this run, by the event feed',
    `    an agent was free                                            ${formatPercentiles(times(false))}`,
    `    had to wait for an agent                                     ${formatPercentiles(times(true))}`,
    '',
    ...describeVerdict(run.faults),
  ];
}

function describeVerdict(faults: readonly Fault[]): string[] {
  const lines = Object.entries(rules).map(([rule, promise]) => {
    const broken = faults.filter((fault) => fault.rule === rule).length;
    return broken === 0 ? `  ✔ ${promise}` : `  ✘ ${promise}: broken (${broken})`;
  });
  if (faults.length === 0) return [...lines, '', 'All is well.'];
  const more = faults.length - shownFaults;
  return [
    ...lines,
    '',
    'What is wrong:',
    ...faults.slice(0, shownFaults).map(({ detail }) => `  - ${detail}`),
    ...(more > 0 ? [`  … and ${more} more`] : []),
  ];
}
