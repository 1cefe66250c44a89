import { CommandFault, type FlowApi } from './flow-api.ts';
import type { FlowFile } from './flow-file.ts';

/** @returns whether the document is valid; its faults are printed, one a line */
export async function validateFlowFile(api: FlowApi, path: string, file: FlowFile): Promise<boolean> {
  const { valid } = await checkFlowFile(api, path, file);
  if (valid) console.log(`${path}: valid`);
  return valid;
}

interface Checked {
  readonly valid: boolean;
  /** With its defaults. */
  readonly document: unknown;
}

export async function checkFlowFile(api: FlowApi, path: string, { document, renamed }: FlowFile): Promise<Checked> {
  const { status, body } = await api.call<{ valid: boolean; faults: Fault[]; document: unknown }>(
    'POST',
    '/v1/flows/validate',
    { document },
  );
  if (status !== 200) throw new CommandFault(`POST /v1/flows/validate: ${status} ${JSON.stringify(body)}`);
  for (const { path: place, message, mend } of body.faults) {
    console.error(`${path}: ${renamed.get(place) ?? place}: ${message}. ${mend}`);
  }
  return { valid: body.valid, document: body.document };
}

interface Fault {
  readonly path: string;
  readonly message: string;
  readonly mend: string;
}
