/**
 * How one actor is told what its rows say.
 *
 * By an update with start, if it can be: the server need not write down that a workflow task is wanted and begun, so it writes once
 * instead of three times. An update is not durable until the actor has taken it; until then the outbox is what keeps it. Handlers of actors
 * never wait, so the answer comes with the workflow task that the update caused, and an answer is all that is needed.
 *
 * By a signal with start, whatever else: it is durable as soon as the server answers, whether or not anybody is there to act on it. So
 * whenever an update fails, for whatever reason, a signal follows: no worker took it in time; a worker of the build before has no handler
 * and refuses it (during a rolling upgrade); the run has had as many as it may have; the run ended or continued as new meanwhile; the
 * server's registry forgot it. Was the update taken in truth, the actor hears the same twice and looks once more.
 *
 * Every call starts the actor if none runs, so no actor has to be created first, and a lost one comes back.
 */
import { isGrpcServiceError, WithStartWorkflowOperation, type Client } from '@temporalio/client';
import type { OutboxRow } from '../store/outbox.ts';
import {
  closeConversationSignal,
  contactWorkflowId,
  contactWorkflowType,
  nudgeSignal,
  nudgeUpdate,
  type ContactWorkflowInput,
} from '../workflows/contract.ts';
import type { RelayMetrics } from './relay-metrics.ts';

export interface DeliveryOptions {
  readonly client: Client;
  readonly taskQueue: string;
  readonly maxHistoryEvents: number;
  readonly metrics: RelayMetrics;
}

export interface Delivery {
  /** Resolves when the server has what the rows of one contact say; rejects when it is away, or refuses this one. */
  tellActor(rows: readonly OutboxRow[]): Promise<void>;
}

/**
 * An actor answers in some 10 ms, and in seconds on a machine that is overloaded: an update given up too early there is carried out all the
 * same, and its signal only adds to the load (with 2 s, of what was told on two cores with a load of 26 most went both ways). Where
 * nobody works on the task queue, waiting costs nothing but this time, once in a while; the outbox keeps the rows meanwhile.
 */
const updateDeadlineMs = 5_000;
const signalDeadlineMs = 10_000;
/**
 * So many updates in a row unanswered mean that nobody works on the task queue. For a while it is not tried, or an outbox that drains
 * while the workers are away would wait 5 s for each of its contacts. As many as the relay has under way: where somebody works, slowly, one of
 * them is answered. With 8, a stall of some seconds on a busy machine was followed by a quarter of a minute of signals, which cost more, and half as
 * much was completed.
 */
const maxUnanswered = 64;
const pauseMs = 15_000;

export function createDelivery({ client, taskQueue, maxHistoryEvents, metrics }: DeliveryOptions): Delivery {
  let unanswered = 0;
  let updatesFrom = -Infinity;

  return {
    async tellActor(rows) {
      const { workspaceId, contactId } = rows[0]!;
      const input: ContactWorkflowInput = { workspaceId, contactId, maxHistoryEvents };
      const start: Start = {
        workflowId: contactWorkflowId(input),
        taskQueue,
        args: [input],
        // Where the server weighs tasks fairly, a workspace that floods it does not delay the others.
        priority: { fairnessKey: workspaceId },
      };
      const closeIds = new Set(rows.map((row) => row.closeConversationId).filter((id) => id !== null));
      // Whatever an actor is told, it looks, and every row was committed before: a close tells all that a nudge beside it would.
      if (closeIds.size === 0) await tell(start, null);
      for (const conversationId of closeIds) await tell(start, conversationId);
    },
  };

  async function tell(start: Start, closeConversationId: string | null): Promise<void> {
    if (performance.now() >= updatesFrom && (await isTakenAsUpdate(start, closeConversationId))) {
      metrics.told.inc({ by: 'update' });
      return;
    }
    await signal(start, closeConversationId);
    metrics.told.inc({ by: 'signal' });
  }

  async function isTakenAsUpdate(start: Start, closeConversationId: string | null): Promise<boolean> {
    try {
      await client.withDeadline(Date.now() + updateDeadlineMs, () =>
        // Completed is what it is when it is accepted: asking for that stage costs no further call.
        client.workflow.executeUpdateWithStart(nudgeUpdate, {
          args: [closeConversationId === null ? {} : { closeConversationId }],
          startWorkflowOperation: new WithStartWorkflowOperation(contactWorkflowType, {
            ...start,
            workflowIdConflictPolicy: 'USE_EXISTING',
          }),
        }),
      );
      unanswered = 0;
      return true;
    } catch (error) {
      if (isUnanswered(error)) unanswered += 1;
      if (unanswered >= maxUnanswered) updatesFrom = performance.now() + pauseMs;
      return false;
    }
  }

  async function signal(start: Start, conversationId: string | null): Promise<void> {
    await client.withDeadline(Date.now() + signalDeadlineMs, () =>
      conversationId === null
        ? client.workflow.signalWithStart(contactWorkflowType, { ...start, signal: nudgeSignal, signalArgs: [] })
        : client.workflow.signalWithStart(contactWorkflowType, {
            ...start,
            signal: closeConversationSignal,
            signalArgs: [{ conversationId }],
          }),
    );
  }
}

interface Start {
  readonly workflowId: string;
  readonly taskQueue: string;
  readonly args: [ContactWorkflowInput];
  readonly priority: { readonly fairnessKey: string };
}

const grpcDeadlineExceeded = 4;
const grpcUnavailable = 14;

const isUnanswered = (error: unknown): boolean => grpcCodeOf(error) === grpcDeadlineExceeded;

export function isServerAway(error: unknown): boolean {
  const code = grpcCodeOf(error);
  return code === grpcUnavailable || code === grpcDeadlineExceeded;
}

/** The client wraps what gRPC reports, so the whole chain of causes is looked at. */
function grpcCodeOf(error: unknown): number | null {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (isGrpcServiceError(cause)) return cause.code;
  }
  return null;
}
