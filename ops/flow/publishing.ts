import { isDeepStrictEqual } from 'node:util';
import { CommandFault, type FlowApi } from './flow-api.ts';
import type { FlowFile } from './flow-file.ts';
import { checkFlowFile } from './validating.ts';

/**
 * Makes what the file says live: the flow of that name is created or changed, and published only if its live version is another, so that
 * publishing the same file again does nothing.
 * @returns whether it is live
 */
export async function publishFlowFile(api: FlowApi, path: string, file: FlowFile): Promise<boolean> {
  const { valid, document } = await checkFlowFile(api, path, file);
  if (!valid) return false;
  const named = (await api.listAll<Flow>('/v1/flows')).filter(({ name }) => name === file.name);
  if (named.length > 1) {
    console.error(
      `${path}: /name: ${named.length} flows are called ${JSON.stringify(file.name)}. Rename or archive all but one.`,
    );
    return false;
  }
  const flow =
    named[0] === undefined
      ? await create(api, { ...file, document })
      : await change(api, named[0], { ...file, document });
  const { publishedNumber } = flow;
  if (publishedNumber !== null) {
    const live = await api.get<{ document: unknown }>(`/v1/flows/${flow.id}/versions/${publishedNumber}`);
    if (isDeepStrictEqual(live.document, document)) {
      console.log(`${path}: version ${publishedNumber} of ${JSON.stringify(file.name)} is live already`);
      return true;
    }
  }
  const published = await insist<{ number: number; hints: { message: string }[] }>(
    api,
    'POST',
    `/v1/flows/${flow.id}/publish`,
  );
  console.log(`${path}: version ${published.number} of ${JSON.stringify(file.name)} is live`);
  for (const { message } of published.hints) console.log(`${path}: hint: ${message}`);
  return true;
}

interface Flow {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly document: unknown;
  readonly publishedNumber: number | null;
}

const create = (api: FlowApi, { name, description, document }: FlowFile): Promise<Flow> =>
  insist(api, 'POST', '/v1/flows', { name, description, document });

async function change(api: FlowApi, flow: Flow, { description, document }: FlowFile): Promise<Flow> {
  if (flow.description === description && isDeepStrictEqual(flow.document, document)) return flow;
  return insist(api, 'PATCH', `/v1/flows/${flow.id}`, { description, document });
}

async function insist<Body>(api: FlowApi, method: 'POST' | 'PATCH', path: string, body?: unknown): Promise<Body> {
  const answer = await api.call<Body>(method, path, body);
  if (answer.status >= 300)
    throw new CommandFault(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}
