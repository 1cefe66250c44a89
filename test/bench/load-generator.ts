/**
 * Contacts who write and agents who close, from outside, over HTTP only. Open loop: messages go out at instants that are set beforehand,
 * however slowly the system answers, and a latency counts from the set instant. So a system that falls behind shows it, where a
 * generator that waits for answers would slow down with it and see nothing.
 *
 * A contact writes again only when its conversation is closed, so that each message opens a conversation. The agent closes some time
 * after the assignment: at once it would close in bursts, since the feed tells what is new five times a second.
 */
import { createConnections, type Answer } from './load-connections.ts';
import { followFeed, type LoadEvent } from './load-events.ts';

export interface LoadTarget {
  readonly apiUrls: readonly string[];
  readonly workspaces: readonly {
    readonly workspaceId: string;
    readonly keys: { readonly ingest: string; readonly agent: string };
  }[];
}

export interface LoadStep {
  /** Conversations a second; with several workspaces they take turns. */
  readonly rate: number;
  readonly seconds: number;
  /** At the same rate, before anything counts. */
  readonly leadInSeconds?: number;
  readonly arrivals?: 'poisson' | 'even' | { readonly burst: number };
  /** Contacts who have never written, of all: 0 to 1. Where no known one is free, a new one writes. */
  readonly newContacts?: number;
  /** The longest that an agent takes to close; the mean is half of it. Null: nobody closes. */
  readonly thinkMs?: number | null;
  /** How long to wait at the end for what is under way. */
  readonly drainSeconds?: number;
}

/** Milliseconds; what was not answered or assigned even at the end of the drain is in none of the lists but in `unfinished`. */
export interface LoadReport {
  readonly seconds: number;
  /** Messages whose instant lay in the measured time. */
  readonly offered: number;
  /** Conversations whose closed event lay in it. */
  readonly completed: number;
  readonly assigned: number;
  readonly newContacts: number;
  /** From the set instant to the assigned event's time. */
  readonly openToAssigned: readonly number[];
  /** From the set instant until the feed told of it. */
  readonly openToSeen: readonly number[];
  readonly postToAnswer: readonly number[];
  readonly closeToClosed: readonly number[];
  /** Open or on the way, four times a second. */
  readonly underWay: readonly number[];
  /** By what the answer was: `503`, `ECONNRESET`. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Conversations that had to wait for an agent, which none should. */
  readonly waited: number;
  readonly unfinished: number;
}

export interface LoadGenerator {
  run(step: LoadStep, onPhase: (phase: 'measuring' | 'measured') => void): Promise<LoadReport>;
  stop(): void;
}

interface Visit {
  readonly workspace: Workspace;
  readonly contact: string;
  readonly scheduledAt: number;
  readonly thinkMs: number | null;
  closeSentAt: number;
}

interface Workspace {
  readonly keys: LoadTarget['workspaces'][number]['keys'];
  /** Longest free first, so that all take turns. */
  readonly idle: string[];
  readonly visits: Map<string, Visit>;
  /** What the feed told before the answer to the message. */
  readonly early: Map<string, LoadEvent[]>;
}

export async function createLoadGenerator({ apiUrls, workspaces: given }: LoadTarget): Promise<LoadGenerator> {
  const apis = apiUrls.map(createConnections);
  const run = `${process.pid.toString(36)}${Date.now().toString(36)}`;
  let drawn = 0;
  let calls = 0;
  let measure = createMeasure();

  const workspaces = given.map(({ keys }): Workspace => ({ keys, idle: [], visits: new Map(), early: new Map() }));
  const feeds = await Promise.all(
    workspaces.map((workspace) => followFeed(apiUrls[0]!, workspace.keys.agent, (event) => take(workspace, event))),
  );

  const post = (path: string, key: string, body: string): Promise<Answer> =>
    apis[(calls += 1) % apis.length]!.request('POST', path, { key, body });

  async function write(scheduledAt: number, workspace: Workspace, { newContacts = 0, thinkMs = 500 }: LoadStep) {
    drawn += 1;
    const known = Math.random() < newContacts ? undefined : workspace.idle.shift();
    const contact = known ?? `contact-${run}-${drawn}`;
    const visit: Visit = { workspace, contact, scheduledAt, thinkMs, closeSentAt: 0 };
    measure.begin(visit, known === undefined);
    const text = drawn % 2 === 0 ? 'There is a mistake in my invoice' : 'How do I change my address?';
    const body = JSON.stringify({
      channel: 'web',
      externalId: `${run}-${drawn}`,
      contact: { externalId: contact },
      text,
    });
    const answer = await post('/v1/messages', workspace.keys.ingest, body).catch(toFailure);
    if (answer.status !== 202) {
      workspace.idle.push(contact);
      return measure.refuse(visit, answer);
    }
    measure.answer(visit);
    const { contactId } = JSON.parse(answer.text) as { contactId: string };
    workspace.visits.set(contactId, visit);
    const early = workspace.early.get(contactId) ?? [];
    workspace.early.delete(contactId);
    for (const event of early) take(workspace, event);
  }

  function take(workspace: Workspace, event: LoadEvent): void {
    const visit = workspace.visits.get(event.contactId);
    if (visit === undefined) {
      workspace.early.set(event.contactId, [...(workspace.early.get(event.contactId) ?? []), event]);
    } else if (event.type === 'conversation.assigned') {
      measure.assign(visit, event.atMs);
      if (visit.thinkMs === null) return;
      setTimeout(() => void close(visit, event.conversationId), Math.random() * visit.thinkMs);
    } else if (event.type === 'conversation.waiting') {
      measure.wait();
    } else {
      workspace.visits.delete(event.contactId);
      workspace.idle.push(visit.contact);
      measure.finish(visit, event.atMs);
    }
  }

  /** As an agent's desk does: again until it is answered. */
  async function close(visit: Visit, conversationId: string): Promise<void> {
    visit.closeSentAt ||= Date.now();
    const answer = await post(`/v1/conversations/${conversationId}/close`, visit.workspace.keys.agent, '{}').catch(
      toFailure,
    );
    if (answer.status === 202) return;
    measure.refuse(null, answer);
    setTimeout(() => void close(visit, conversationId), 100);
  }

  return {
    async run(step, onPhase) {
      measure = createMeasure();
      const { leadInSeconds = 2, seconds, drainSeconds = 30 } = step;
      const startedAt = Date.now();
      const fromMs = startedAt + leadInSeconds * 1_000;
      measure.within(fromMs, fromMs + seconds * 1_000);
      const tellAt = (phase: 'measuring' | 'measured', atMs: number) =>
        pause(atMs - startedAt).then(() => onPhase(phase));
      const measuring = Promise.all([tellAt('measuring', fromMs), tellAt('measured', fromMs + seconds * 1_000)]);
      await arrive(planArrivals(step, startedAt), (instant, index) =>
        write(instant, workspaces[index % workspaces.length]!, step),
      );
      await measuring;
      const deadline = Date.now() + drainSeconds * 1_000;
      while (measure.underWay() > 0 && Date.now() < deadline) await pause(20);
      // What is still on the way must not be taken for something of the next step.
      for (const { visits, early } of workspaces) for (const left of [visits, early]) left.clear();
      return measure.report(seconds);
    },
    stop() {
      for (const feed of feeds) feed.stop();
      for (const api of apis) api.close();
    },
  };
}

/** The set instants, lead-in and measured time together. */
function planArrivals({ rate, seconds, leadInSeconds = 2, arrivals = 'poisson' }: LoadStep, startMs: number): number[] {
  const endMs = startMs + (leadInSeconds + seconds) * 1_000;
  const burst = typeof arrivals === 'object' ? arrivals.burst : 1;
  const meanMs = (1_000 * burst) / rate;
  const instants: number[] = [];
  let at = startMs;
  while (at < endMs) {
    for (let count = 0; count < burst; count += 1) instants.push(at);
    at += arrivals === 'poisson' ? -Math.log(1 - Math.random()) * meanMs : meanMs;
  }
  return instants;
}

/** Resolves after the last instant. */
function arrive(instants: readonly number[], begin: (instant: number, index: number) => unknown): Promise<void> {
  return new Promise((resolve) => {
    let next = 0;
    const beginDue = (): void => {
      const now = Date.now();
      for (; next < instants.length && instants[next]! <= now; next += 1) void begin(instants[next]!, next);
      if (next === instants.length) resolve();
      else setTimeout(beginDue, instants[next]! - now);
    };
    beginDue();
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const toFailure = (error: NodeJS.ErrnoException): Answer => ({ status: 0, text: error.code ?? error.message });

function createMeasure() {
  let [fromMs, toMs] = [0, 0];
  let [offered, completed, assigned, created, waited, underWay] = [0, 0, 0, 0, 0, 0];
  const lists = {
    openToAssigned: [] as number[],
    openToSeen: [] as number[],
    postToAnswer: [] as number[],
    closeToClosed: [] as number[],
  };
  const levels: number[] = [];
  const refusals: Record<string, number> = {};
  const unfinished = new Set<Visit>();
  const counts = ({ scheduledAt }: Visit) => scheduledAt >= fromMs && scheduledAt < toMs;
  const isNow = (atMs: number) => atMs >= fromMs && atMs < toMs;
  const sampling = setInterval(() => isNow(Date.now()) && levels.push(underWay), 250);

  return {
    within(from: number, to: number): void {
      [fromMs, toMs] = [from, to];
    },
    begin(visit: Visit, isNew: boolean): void {
      underWay += 1;
      if (!counts(visit)) return;
      offered += 1;
      if (isNew) created += 1;
      unfinished.add(visit);
    },
    answer(visit: Visit): void {
      if (counts(visit)) lists.postToAnswer.push(Date.now() - visit.scheduledAt);
    },
    refuse(visit: Visit | null, { status, text }: Answer): void {
      const what = status === 0 ? text : String(status);
      refusals[what] = (refusals[what] ?? 0) + 1;
      if (visit !== null) underWay -= 1;
    },
    assign(visit: Visit, atMs: number): void {
      if (isNow(atMs)) assigned += 1;
      if (!counts(visit)) return;
      lists.openToAssigned.push(atMs - visit.scheduledAt);
      lists.openToSeen.push(Date.now() - visit.scheduledAt);
    },
    wait(): void {
      waited += 1;
    },
    finish(visit: Visit, atMs: number): void {
      underWay -= 1;
      unfinished.delete(visit);
      if (isNow(atMs)) completed += 1;
      if (counts(visit)) lists.closeToClosed.push(atMs - visit.closeSentAt);
    },
    underWay: () => underWay,
    report(seconds: number): LoadReport {
      clearInterval(sampling);
      return {
        ...{ seconds, offered, completed, assigned, newContacts: created, waited, refusals },
        ...lists,
        underWay: levels,
        unfinished: unfinished.size,
      };
    },
  };
}
