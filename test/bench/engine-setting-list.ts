/** What `npm run bench -- engine-settings` tries, kept and rejected alike: PERFORMANCE.md tells which is which, and why. */
import type { CeilingOptions } from './ceiling-measure.ts';
import type { EngineTuning } from './engine.ts';

export interface Setting {
  readonly name: string;
  readonly shards?: number;
  readonly tuning?: EngineTuning;
  readonly ceiling?: Partial<CeilingOptions>;
}

/** Settings that are measured side by side: few enough that a group takes two or three minutes. */
export interface SettingGroup {
  readonly title: string;
  /** What all of them have, and the shipped one beside them. */
  readonly load?: Partial<CeilingOptions>;
  readonly seconds?: number;
  /** One after the other, not at the same time. */
  readonly inTurns?: boolean;
  readonly settings: readonly Setting[];
}

type DynamicConfig = NonNullable<EngineTuning['dynamicConfig']>;

const dynamic = (name: string, dynamicConfig: DynamicConfig): Setting => ({ name, tuning: { dynamicConfig } });
const environment = (name: string, env: Readonly<Record<string, string>>): Setting => ({ name, tuning: { env } });
const database = (name: string, postgres: Readonly<Record<string, string>>): Setting => ({
  name,
  tuning: { postgres },
});
const worker = (name: string, options: NonNullable<CeilingOptions['worker']>): Setting => ({
  name,
  ceiling: { worker: options },
});

const queues = ['transfer', 'timer', 'visibility', 'archival'];
/** Goroutines that each queue keeps for its tasks; those of replication, of which there is none, among them. */
const queueWorkers = (count: number): DynamicConfig => ({
  ...Object.fromEntries(queues.map((queue) => [`history.${queue}ProcessorSchedulerWorkerCount`, count])),
  'history.memoryTimerProcessorSchedulerWorkerCount': Math.min(64, count),
  'history.ReplicationProcessorSchedulerWorkerCount': 1,
  'history.ReplicationLowPriorityProcessorSchedulerWorkerCount': 1,
});

export const engineSettings: readonly SettingGroup[] = [
  {
    title: 'garbage collection, goroutines and threads of the server',
    settings: [
      environment('GOGC 100', { GOGC: '100' }),
      environment('GOGC 800', { GOGC: '800' }),
      environment('GOGC 1600', { GOGC: '1600' }),
      environment('stacks start small (adaptivestackstart=0)', { GODEBUG: 'adaptivestackstart=0' }),
      dynamic('queue workers 16, not 512', queueWorkers(16)),
      dynamic('queue workers 64, not 512', queueWorkers(64)),
      environment('GOMAXPROCS 1', { GOMAXPROCS: '1' }),
    ],
  },
  {
    title: 'queues of the history service',
    settings: [
      { name: '1 history shard', shards: 1 },
      { name: '16 history shards', shards: 16 },
      dynamic('shard writes 8 at a time, not 1', { 'history.shardIOConcurrency': 8 }),
    ],
  },
  {
    title: 'what the server does besides',
    settings: [
      dynamic('health signals off', {
        'system.persistenceHealthSignalMetricsEnabled': false,
        'system.persistenceHealthSignalAggregationEnabled': false,
        'system.historyHealthSignalMetricsEnabled': false,
      }),
      dynamic('transition history off', { 'history.enableTransitionHistory': false }),
      dynamic('raw history between services', {
        'history.sendRawHistoryBetweenInternalServices': true,
        'history.sendRawHistoryBytesToMatchingService': true,
      }),
      dynamic('chasm off', { 'history.enableChasm': false }),
      environment('Prometheus metrics on', { PROMETHEUS_ENDPOINT: '127.0.0.1:0' }),
    ],
  },
  {
    title: 'matching, scanners, caches',
    settings: [
      dynamic('4 task queue partitions', {
        'matching.numTaskqueueReadPartitions': 4,
        'matching.numTaskqueueWritePartitions': 4,
      }),
      dynamic('old matcher', { 'matching.useNewMatcher': false }),
      dynamic('scanners and workers of namespaces off', {
        'worker.taskQueueScannerEnabled': false,
        'worker.historyScannerEnabled': false,
        'worker.executionsScannerEnabled': false,
        'worker.buildIdScavengerEnabled': false,
        'worker.enableScheduler': false,
        'worker.enableNamespaceBatcher': false,
      }),
      dynamic('events cache of the host', { 'history.enableHostLevelEventsCache': true }),
      dynamic('done tasks deleted at once', { 'history.enableBestEffortDeleteTasksOnWorkflowUpdate': true }),
    ],
  },
  {
    title: "Temporal's database",
    settings: [
      database('synchronous_commit off', { synchronous_commit: 'off' }),
      database('commit_delay 500 µs', { commit_delay: '500', commit_siblings: '2' }),
      database('wal_level minimal', { wal_level: 'minimal', max_wal_senders: '0' }),
      database('update_process_title off', { update_process_title: 'off', track_activities: 'off' }),
      environment('lib/pq, not pgx', { DB: 'postgres12' }),
    ],
  },
  {
    title: 'pollers of the worker',
    settings: [
      worker('2 workflow task pollers', { maxConcurrentWorkflowTaskPolls: 2 }),
      worker('5 workflow task pollers', { maxConcurrentWorkflowTaskPolls: 5 }),
      worker('20 workflow task pollers', { maxConcurrentWorkflowTaskPolls: 20 }),
      worker('1 activity task poller', { maxConcurrentActivityTaskPolls: 1 }),
      worker('autoscaling pollers', { workflowTaskPollerBehavior: { type: 'autoscaling', initial: 5, maximum: 20 } }),
      worker('half of the pollers sticky', { nonStickyToStickyPollRatio: 0.5 }),
      worker('100 workflow tasks at a time, not 40', { maxConcurrentWorkflowTaskExecutions: 100 }),
    ],
  },
  {
    title: 'how actors are told',
    inTurns: true,
    seconds: 4,
    settings: [
      { name: 'client of grpc-js', ceiling: { client: 'grpc-js' } },
      { name: 'gzip on worker and client', ceiling: { compression: 'gzip' } },
      { name: 'told by update, not with start', ceiling: { delivery: 'update' } },
      { name: 'told by signal with start', ceiling: { delivery: 'signal-with-start' } },
      { name: 'a fairness key at each start', ceiling: { fairnessKeys: 10, conversationsPerContact: 1 } },
      { name: 'no fairness key, as many starts', ceiling: { conversationsPerContact: 1 } },
    ],
  },
  {
    title: 'few contacts with many conversations, begun anew after 80 messages',
    inTurns: true,
    // Few, so that each gets through some hundred messages.
    load: { inFlight: 4, conversationsPerContact: 100_000, maxMessages: 80 },
    seconds: 10,
    settings: [
      { name: 'continue as new after 20 messages', ceiling: { maxMessages: 20 } },
      { name: 'continue as new after 40 messages', ceiling: { maxMessages: 40 } },
      { name: 'continue as new after 160 messages', ceiling: { maxMessages: 160 } },
      { name: 'continue as new after 2,000 messages', ceiling: { maxMessages: 2_000 } },
    ],
  },
];
