import { channel } from 'node:diagnostics_channel';
import type { Metrics } from '../platform/metrics.ts';

/**
 * Assignments happen wherever room appears: in the worker when a conversation closes, in the API when an agent comes online.
 * Each publishes how long its conversation took, and the process that runs it counts. Published before the commit, so a
 * transaction that is started over counts twice; that is rare, and a histogram can bear it.
 */
const assignments = channel('switchyard:assignment');

export const publishAssignment = (secondsSinceOpened: number): void => assignments.publish(secondsSinceOpened);

export function observeAssignments(metrics: Metrics): void {
  const histogram = metrics.histogram(
    'open_to_assigned_seconds',
    'Time from the opening of a conversation to its assignment by strategy.',
    [],
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200],
  );
  assignments.subscribe((seconds) => histogram.observe(seconds as number));
}
