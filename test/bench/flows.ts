/**
 * `npm run bench -- flows`: what a long flow costs. Two workspaces of the same system, one by the shortest flow there can be (no step, no branch), one by
 * five steps that ask nobody and ten branches of which the last decides. They take turns, so that whatever the machine does meets both.
 * Once only openings, each of a new contact whose conversation nobody closes, and once whole conversations of known ones.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createApiClient } from '../support/api-client.ts';
import type { BenchContext } from './context.ts';
import type { FlowParts } from './flow-parts.ts';
import { formatFineMs, formatRatio, median, type ScenarioReport } from './figures.ts';
import {
  addUpCpu,
  describeStep,
  formatPercentileCells,
  medianPercentiles,
  summarizeStep,
  tableCpu,
  type StepFigures,
} from './load-figures.ts';
import { warmUp } from './lifecycle.ts';
import { startLoad, type Load } from './load.ts';
import { longFlow } from './long-flow.ts';
import type { ComponentCpu } from './process-cpu.ts';
import { startStage, type Stage, type StageWorkspace } from './stage.ts';

export interface FlowsOptions {
  readonly contacts: number;
  readonly warmUpRate: number;
  /** Conversations a second: well below what the system can do. */
  readonly rate: number;
  readonly seconds: number;
  /** How often the two take turns in one run. */
  readonly turns: number;
  readonly env: Readonly<Record<string, string>>;
}

export const flowsDefaults: FlowsOptions = { contacts: 60, warmUpRate: 8, rate: 15, seconds: 12, turns: 4, env: {} };

const names = ['minimal', 'long'] as const;
type Name = (typeof names)[number];

export async function runFlows(bench: BenchContext, options: FlowsOptions = flowsDefaults): Promise<ScenarioReport> {
  const stage = await startStage({ bench, workspaces: names.length, env: options.env });
  const loads: Load[] = [];
  try {
    for (const [place, name] of names.entries()) {
      const workspace = stage.workspaces[place]!;
      await publish(stage, workspace, documents[name](workspace.teamIds[0]!));
      loads.push(await startLoad({ ...stage, workspaces: [workspace] }, await stage.components()));
      await warmUp(bench, loads[place]!, options);
    }
    const found: Record<Name, StepFigures[]> = { minimal: [], long: [] };
    const openings: Record<Name, number[]> = { minimal: [], long: [] };
    for (let turn = 1; turn <= bench.runs * options.turns; turn += 1) {
      // Whoever comes first meets a system that is less warm.
      for (const name of turn % 2 === 0 ? names : names.toReversed()) {
        const place = names.indexOf(name);
        const { rate, seconds } = options;
        const step = { rate, seconds, leadInSeconds: 1, arrivals: 'even' } as const;
        found[name].push(summarizeStep(rate, await loads[place]!.run({ ...step, thinkMs: 60 })));
        bench.note(`${name}: ${describeStep(found[name].at(-1)!)}`);
        const opened = await loads[place]!.run({ ...step, newContacts: 1, thinkMs: null, drainSeconds: 1 });
        openings[name].push(cpuOf(opened.cpu) / opened.offered);
        bench.note(`${name}: ${openings[name].at(-1)!.toFixed(1)} CPU-ms an opening`);
      }
    }
    bench.note('checking the invariants');
    const measured = { found, openings, runs: bench.runs, parts: await measureParts() };
    return report({ ...measured, faults: await stage.findFaults() });
  } finally {
    for (const load of loads) await load.stop();
    await stage.stop();
  }
}

async function publish(stage: Stage, { keys }: StageWorkspace, document: object): Promise<void> {
  const api = createApiClient(stage.apiUrls[0]!, keys);
  const { items } = await api.get('/v1/flows');
  const [flow] = items as { id: string }[];
  const { status, body } = await api.call('PATCH', `/v1/flows/${flow!.id}`, { document });
  if (status !== 200) throw new Error(JSON.stringify(body));
  await api.post(`/v1/flows/${flow!.id}/publish`);
}

const documents: Readonly<Record<Name, (teamId: string) => object>> = {
  minimal: (teamId) => ({ enrichment: [], routing: { branches: [], otherwise: { teamId } } }),
  long: longFlow,
};

/** In a process of its own, since this one has the table of languages already. */
async function measureParts(): Promise<FlowParts> {
  const child = fork(fileURLToPath(new URL('./flow-parts.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] });
  const [parts] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the parts' process ended with exit code ${code}`))),
  ])) as [FlowParts];
  return parts;
}

interface Measured {
  readonly found: Readonly<Record<Name, readonly StepFigures[]>>;
  readonly openings: Readonly<Record<Name, readonly number[]>>;
  readonly runs: number;
  readonly parts: FlowParts;
  readonly faults: readonly string[];
}

function report({ found, openings, runs, parts, faults }: Measured): ScenarioReport {
  const whole = { minimal: found.minimal.map(cpuOfStep), long: found.long.map(cpuOfStep) };
  const [opening, conversation] = [ratiosOf(openings, runs), ratiosOf(whole, runs)];
  const [ofOpening, ofWhole] = [opening.median, conversation.median];
  const row = (name: Name) => [
    name,
    ...formatPercentileCells(medianPercentiles(found[name].map((step) => step.openToAssignedMs))),
    median(openings[name]).toFixed(1),
    median(whole[name]).toFixed(1),
  ];
  const cost = tableCpu('Cost', new Map(names.map((name) => [name, found[name]])));
  return {
    tables: [
      {
        title: `A flow of 5 steps and 10 branches: ${formatRatio(ofOpening)} the CPU of an opening, ${formatRatio(ofWhole)} of a whole conversation`,
        columns: ['open→assigned', 'p50', 'p95', 'p99', 'CPU-ms, opening', 'whole'],
        rows: names.map(row),
      },
      tableOfRatios({ 'an opening': opening, 'a whole conversation': conversation }),
      ...(cost === null ? [] : [cost]),
      tableOfParts(parts),
    ],
    figures: { ...found, openings, ofOpening, ofWhole, byRun: { opening, conversation }, parts },
    verdicts: [{ what: 'CPU of an opening by a long flow, against the minimal one', value: ofOpening, bar: 1.15 }],
    faults,
  };
}

const tableOfParts = ({ languageMiB, languageUs, firstDecisionMs, decisionUs }: FlowParts) => ({
  title: 'Parts, in one process',
  columns: ['', 'cost'],
  rows: [
    ['table of languages', `${languageMiB.toFixed(0)} MiB`],
    ['language of a short message', formatUs(languageUs)],
    ['a route by the long flow, the first time', formatFineMs(firstDecisionMs)],
    ['a route by the long flow, from then on', formatUs(decisionUs)],
  ],
});

const formatUs = (us: number): string => `${us.toFixed(0)} µs`;

/** The long flow's CPU time to the shortest one's, turn by turn, as the machine has slow times. */
export function ratiosOf({ minimal, long }: Readonly<Record<Name, readonly number[]>>, runs: number): Ratios {
  const ratios = long.map((ms, turn) => ms / minimal[turn]!);
  const turns = ratios.length / runs;
  const byRun = Array.from({ length: runs }, (_, run) => median(ratios.slice(run * turns, (run + 1) * turns)));
  return { median: median(ratios), lowest: Math.min(...byRun), highest: Math.max(...byRun) };
}

interface Ratios {
  /** Of all turns of all runs. */
  readonly median: number;
  /** Of the runs' medians. */
  readonly lowest: number;
  readonly highest: number;
}

const tableOfRatios = (ratios: Readonly<Record<string, Ratios>>) => ({
  title: 'CPU of the long flow, to that of the shortest',
  columns: ['of', 'median', 'lowest run', 'highest run'],
  rows: Object.entries(ratios).map(([what, { median, lowest, highest }]) => [
    what,
    ...[median, lowest, highest].map(formatRatio),
  ]),
});

/** Of everything but the load generator. */
const cpuOf = (cpu: readonly ComponentCpu[]): number =>
  addUpCpu(
    Object.fromEntries(cpu.filter(({ name }) => name !== 'load generator').map(({ name, cpuMs }) => [name, cpuMs])),
  );

function cpuOfStep({ cpuPerConversationMs }: StepFigures): number {
  const { 'load generator': _, ...ours } = cpuPerConversationMs;
  return addUpCpu(ours);
}
