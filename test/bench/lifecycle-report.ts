/** What `lifecycle` found, as tables and verdicts. */
import type { CeilingFigures } from './ceiling-measure.ts';
import { formatRate, formatRatio, median, type ScenarioReport, type Table, type Verdict } from './figures.ts';
import type { Ceilings, LifecycleRuns } from './lifecycle.ts';
import {
  formatPercentileCells,
  formatRoundMs,
  medianPercentiles,
  tableCpu,
  tableSteps,
  type Cost,
  type StepFigures,
} from './load-figures.ts';
import { keepsUp, type RateFound } from './rate-search.ts';

export function reportFixedRate(rate: number, runs: readonly StepFigures[], faults: readonly string[]): ScenarioReport {
  const cost = tableCpu('Cost', new Map([[`${formatRate(rate)}/s`, runs]]));
  return {
    tables: [tableSteps('Steps', runs, keepsUp), ...(cost === null ? [] : [cost])],
    figures: { runs },
    verdicts: [],
    faults,
  };
}

interface Findings {
  readonly runs: LifecycleRuns;
  readonly plain?: readonly RateFound[] | undefined;
  readonly ceilings?: Ceilings | undefined;
  readonly faults: readonly string[];
}

/** What the largest hosted peer documents for a whole organization, 5,000 a minute. */
const goalPerSecond = 83;

export function reportLifecycle({ runs, plain, ceilings, faults }: Findings): ScenarioReport {
  const highest = medianRate(runs.found);
  const others = { threeLocal: ceilings?.threeLocal.conversationsPerSecond, plain: plain && medianRate(plain) };
  const halfMs = medianPercentiles(runs.half.map((step) => step.openToAssignedMs));
  const verdicts: Verdict[] = [
    { what: 'conversations/s, opened to closed', value: highest, bar: goalPerSecond, bound: 'at least' },
    ...(others.threeLocal === undefined
      ? []
      : [ratioVerdict('the ceiling of three local activities', highest / others.threeLocal, 0.8)]),
    ...(others.plain === undefined ? [] : [ratioVerdict('the plain variant', highest / others.plain, 3)]),
    { what: 'open→assigned p99 at half of that, ms', value: halfMs.p99 ?? Infinity, bar: 250 },
  ];
  const steps = runs.found.flatMap((found) => found.steps);
  return {
    tables: [
      tableSteps('Steps, evenly spaced', steps, keepsUp),
      tableLatencies(runs),
      tableRates(highest, { runs, plain, ceilings }),
      tableCost(runs, { plain, ceilings }),
    ].filter((table) => table !== null),
    figures: { highest, others, ...runs, plain, ceilings },
    verdicts,
    faults,
  };
}

const ratioVerdict = (what: string, value: number, bar: number): Verdict => ({
  what: `conversations/s to those of ${what}`,
  value,
  bar,
  bound: 'at least',
});

const medianRate = (found: readonly RateFound[]): number =>
  median(found.map(({ highest, mostCompleted }) => highest ?? mostCompleted));

function tableLatencies({ half, most, strangers }: LifecycleRuns): Table {
  const row = (name: string, steps: readonly StepFigures[]): string[] => [
    name,
    `${formatRate(median(steps.map(({ rate }) => rate)))}/s`,
    ...formatPercentileCells(medianPercentiles(steps.map((step) => step.openToAssignedMs))),
    ...formatPercentileCells(medianPercentiles(steps.map((step) => step.openToSeenMs))).slice(0, 1),
    formatRoundMs(medianPercentiles(steps.map((step) => step.postToAnswerMs)).p99),
    formatRoundMs(medianPercentiles(steps.map((step) => step.closeToClosedMs)).p99),
  ];
  return {
    title: 'How quick, with arrivals by chance (Poisson); from the instant at which the message was to be sent',
    columns: [
      'at',
      'rate',
      'open→assigned p50',
      'p95',
      'p99',
      'seen in the feed p50',
      'post→202 p99',
      'close→closed p99',
    ],
    rows: [row('50 %', half), row('80 %', most), row('50 %, new contacts', strangers)],
  };
}

function tableRates(highest: number, { runs, plain, ceilings }: Pick<Findings, 'runs' | 'plain' | 'ceilings'>): Table {
  const row = (name: string, rate: number, most: number) => [
    name,
    `${formatRate(rate)}/s`,
    `${formatRate(most)}/s`,
    formatRatio(highest / rate),
  ];
  const ceilingRow = (name: string, { conversationsPerSecond: rate }: CeilingFigures) => row(name, rate, rate);
  return {
    title: 'The highest rate, medians',
    columns: ['', 'kept up with', 'at most completed', 'lifecycle to it'],
    rows: [
      row('lifecycle', highest, median(runs.found.map((found) => found.mostCompleted))),
      ...(ceilings === undefined
        ? []
        : [
            ceilingRow('ceiling, three local activities', ceilings.threeLocal),
            ceilingRow('ceiling, one local activity', ceilings.oneLocal),
          ]),
      ...(plain === undefined
        ? []
        : [row('plain variant', medianRate(plain), median(plain.map((found) => found.mostCompleted)))]),
    ],
  };
}

function tableCost(runs: LifecycleRuns, { plain, ceilings }: Pick<Findings, 'plain' | 'ceilings'>): Table | null {
  const highest = ({ steps }: RateFound): StepFigures[] =>
    steps
      .filter(keepsUp)
      .toSorted((left, right) => right.rate - left.rate)
      .slice(0, 1);
  const ceilingCost = ({ cpuMs }: CeilingFigures): Cost[] => [
    { cpuPerConversationMs: Object.fromEntries(cpuMs.map(({ name, perConversation }) => [name, perConversation])) },
  ];
  return tableCpu(
    'Cost, medians',
    new Map<string, readonly Cost[]>([
      ['50 %', runs.half],
      ['80 %', runs.most],
      ['highest', runs.found.flatMap(highest)],
      ['50 %, new contacts', runs.strangers],
      ['plain, highest', plain?.flatMap(highest) ?? []],
      ['ceiling, three', ceilings === undefined ? [] : ceilingCost(ceilings.threeLocal)],
      ['ceiling, one', ceilings === undefined ? [] : ceilingCost(ceilings.oneLocal)],
    ]),
  );
}
