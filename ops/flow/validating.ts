import { CommandFault, type FlowApi } from './flow-api.ts';
import type { FlowFile } from './flow-file.ts';

/** @returns whether the document is valid; its faults are printed, or what is worth knowing about it, one a line */
export async function validateFlowFile(api: FlowApi, path: string, file: FlowFile): Promise<boolean> {
  const { valid, hints } = await checkFlowFile(api, path, file);
  if (valid) console.log(`${path}: valid`);
  for (const { message } of hints) console.log(`${path}: hint: ${message}`);
  return valid;
}

interface Checked {
  readonly valid: boolean;
  /** With its defaults. */
  readonly document: unknown;
  readonly hints: readonly { readonly message: string }[];
}

export async function checkFlowFile(api: FlowApi, path: string, { document, renamed }: FlowFile): Promise<Checked> {
  const { status, body } = await api.call<Checked & { faults: Fault[] }>('POST', '/v1/flows/validate', { document });
  if (status !== 200) throw new CommandFault(`POST /v1/flows/validate: ${status} ${JSON.stringify(body)}`);
  for (const { path: place, message, mend } of body.faults) {
    console.error(`${path}: ${renamed.get(place) ?? place}: ${message}. ${mend}`);
  }
  return body;
}

interface Fault {
  readonly path: string;
  readonly message: string;
  readonly mend: string;
}
