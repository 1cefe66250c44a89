import { isDeepStrictEqual } from 'node:util';
import { placeOf, type CheckedFile } from './checking.ts';
import { describeFault, printFaults, printHints, type FieldFault } from './fault-lines.ts';
import type { FlowApi, Submitted } from './flow-api.ts';

/**
 * Makes what the file says live: the flow of that name is created or changed, and published only if its live version is another, so that
 * publishing the same file again does nothing. A draft that somebody else is working on is not replaced unless that is asked for. Between
 * looking at the draft and changing it somebody may change it still: the API knows no condition for that.
 * @returns whether it is live
 */
export async function publishFlowFile(
  api: FlowApi,
  path: string,
  { file, replaceDraft }: { file: CheckedFile; replaceDraft: boolean },
): Promise<boolean> {
  const name = JSON.stringify(file.name);
  const prepared = await prepareDraft(api, file, replaceDraft);
  switch (prepared.kind) {
    case 'faulty':
      printFaults(path, prepared.faults);
      return false;
    case 'live':
      console.log(`${path}: version ${prepared.number} of ${name} is live already`);
      printHints(path, prepared.hints);
      return true;
    case 'ready': {
      const published = await api.submit<Published>('POST', `/v1/flows/${prepared.flowId}/publish`);
      if (!published.ok) {
        printFaults(path, describeRefusal(published.faults, file));
        return false;
      }
      const { number, hints } = published.body;
      console.log(`${path}: version ${number} of ${name} is live`);
      printHints(path, [...prepared.hints, ...hints.map(({ message }) => message)]);
      return true;
    }
  }
}

interface Published {
  readonly number: number;
  readonly hints: readonly { readonly message: string }[];
}

type Prepared =
  /** The draft is what the file says, and no version that is live. */
  | { readonly kind: 'ready'; readonly flowId: string; readonly hints: readonly string[] }
  | { readonly kind: 'live'; readonly number: number; readonly hints: readonly string[] }
  | { readonly kind: 'faulty'; readonly faults: readonly string[] };

interface Flow {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly document: unknown;
  readonly publishedNumber: number | null;
}

async function prepareDraft(api: FlowApi, file: CheckedFile, replaceDraft: boolean): Promise<Prepared> {
  const [flow, ...others] = await listNamed(api, '/v1/flows', file.name);
  if (flow === undefined) return createDraft(api, file);
  if (others.length === 0) return changeDraft(api, file, { flow, replaceDraft });
  const message = `${others.length + 1} flows are called ${JSON.stringify(file.name)}`;
  return {
    kind: 'faulty',
    faults: [describeFault({ field: '/name', message, mend: 'Rename or archive all but one.' })],
  };
}

async function listNamed(api: FlowApi, path: string, name: string): Promise<Flow[]> {
  return (await api.listAll<Flow>(path)).filter((flow) => flow.name === name);
}

async function createDraft(api: FlowApi, file: CheckedFile): Promise<Prepared> {
  const { name, description, document } = file;
  const archived = await listNamed(api, '/v1/flows?archived=true', name);
  const created = await api.submit<Flow>('POST', '/v1/flows', { name, description, document });
  if (!created.ok) return faultyOf(created, file);
  const hints = archived.length === 0 ? [] : [archivedHint];
  return { kind: 'ready', flowId: created.body.id, hints };
}

const archivedHint = 'an archived flow has this name, too; restore it to go on with its versions.';

async function changeDraft(
  api: FlowApi,
  file: CheckedFile,
  { flow, replaceDraft }: { flow: Flow; replaceDraft: boolean },
): Promise<Prepared> {
  const { id: flowId, publishedNumber: number } = flow;
  const live = number === null ? null : await api.get<Version>(`/v1/flows/${flowId}/versions/${number}`);
  const isLive = live !== null && isDeepStrictEqual(live.document, file.stored);
  const isDrafted = isDeepStrictEqual(flow.document, file.stored);
  const isForeign = !isDrafted && !replaceDraft && !(await isKept(api, flow, live));
  // What is live already needs no draft, so whoever works on one is left in peace.
  if (isForeign && !isLive) return { kind: 'faulty', faults: [foreignFault(flow)] };
  const change = {
    ...(flow.description !== file.description && { description: file.description }),
    ...(!isDrafted && !isForeign && { document: file.document }),
  };
  if (Object.keys(change).length > 0) {
    const changed = await api.submit<Flow>('PATCH', `/v1/flows/${flowId}`, change);
    if (!changed.ok) return faultyOf(changed, file);
  }
  if (!isLive || number === null) return { kind: 'ready', flowId, hints: [] };
  return { kind: 'live', number, hints: isForeign ? [foreignHint] : [] };
}

interface Version {
  readonly document: unknown;
}

/** Whether a version holds the draft, so that nothing is lost with it: the live one, or, once that was rolled back or withdrawn, the newest. */
async function isKept(api: FlowApi, { id, document }: Flow, live: Version | null): Promise<boolean> {
  if (live !== null && isDeepStrictEqual(document, live.document)) return true;
  const { items } = await api.get<{ items: Version[] }>(`/v1/flows/${id}/versions?limit=1`);
  return items.some((newest) => isDeepStrictEqual(document, newest.document));
}

const foreignFault = ({ name }: Flow): string =>
  `the draft of ${JSON.stringify(name)} has changes that are not published, which this would replace. ` +
  'Publish or undo them, or give --replace-draft.';

const foreignHint = 'the draft has changes that are not published; they stay as they are.';

const faultyOf = ({ faults }: Extract<Submitted<unknown>, { ok: false }>, file: CheckedFile): Prepared => ({
  kind: 'faulty',
  faults: describeRefusal(faults, file),
});

function describeRefusal(faults: readonly FieldFault[], file: CheckedFile): string[] {
  return faults.map((fault) => describeFault({ ...fault, field: placeOf(fault.field, file) }));
}
