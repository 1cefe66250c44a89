import { findSizeFault, type FlowApi } from './flow-api.ts';
import { describeFault, type FieldFault } from './fault-lines.ts';
import { readFlowFile, type Faulty, type FlowFile } from './flow-file.ts';
import { resolveTeams } from './team-names.ts';

/** A file that could be published. */
export interface CheckedFile extends FlowFile {
  /** The document as the API would store it: with its defaults. */
  readonly stored: unknown;
  readonly hints: readonly { readonly message: string }[];
}

/** Reads a file and checks all of it at once: a fault of its name does not hide those of its document, nor an unknown team any other fault. */
export async function checkFlowFile(
  api: FlowApi,
  path: string,
): Promise<{ readonly ok: true; readonly file: CheckedFile } | Faulty> {
  const read = readFlowFile(path);
  if (read.file === null) return { ok: false, faults: read.faults };
  const { file, faults: teamFaults, unresolved } = await resolveTeams(api, read.file);
  const checked = await checkDocument(api, file);
  if (checked.ok && read.faults.length + teamFaults.length === 0) {
    const { stored, hints } = checked;
    return { ok: true, file: { ...file, stored, hints } };
  }
  const documentFaults = (checked.ok ? [] : checked.faults)
    .filter(({ field }) => !unresolved.has(field))
    .map((fault) => describeFault({ ...fault, field: placeOf(fault.field, file) }));
  return { ok: false, faults: [...read.faults, ...teamFaults, ...documentFaults] };
}

/** Where something stands in the file that the API found in what it was sent. */
export function placeOf(field: string, { renamed }: FlowFile): string {
  return field === '' ? '/document' : (renamed.get(field) ?? field);
}

type CheckedDocument =
  | { readonly ok: true; readonly stored: unknown; readonly hints: CheckedFile['hints'] }
  | { readonly ok: false; readonly faults: readonly FieldFault[] };

async function checkDocument(api: FlowApi, { name, description, document }: FlowFile): Promise<CheckedDocument> {
  // Publishing sends these three, so what is too large for that is no valid file.
  const sizeFault = findSizeFault({ name, description, document });
  if (sizeFault !== null) return { ok: false, faults: [sizeFault] };
  const answer = await api.submit<Validation>('POST', '/v1/flows/validate', { document });
  if (!answer.ok) return answer;
  const { valid, faults, hints, document: stored } = answer.body;
  if (valid) return { ok: true, stored, hints };
  return { ok: false, faults: faults.map(({ path: field, message, mend }) => ({ field, message, mend })) };
}

/** What `POST /v1/flows/validate` answers. */
interface Validation {
  readonly valid: boolean;
  readonly document: unknown;
  readonly faults: readonly { readonly path: string; readonly message: string; readonly mend: string }[];
  readonly hints: CheckedFile['hints'];
}
