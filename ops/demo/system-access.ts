import { loadConfig } from '../../platform/config.ts';
import { devFilePath, type DevFile } from '../dev-file.ts';
import { readJson } from '../state-files.ts';
import { createClient, type Agent, type Client } from './client.ts';

/** The running system that `npm start` has told about. Throws an error that says what to do where there is none. */
export async function reachSystem(): Promise<Client> {
  const file = devFilePath(loadConfig().switchyardHome);
  const dev = readJson<DevFile>(file);
  if (dev === null) {
    throw new Error(
      `There is no ${file}: no system was started from here.\n` +
        'Run `npm start` in another terminal and wait until it says that Switchyard runs. Where its state is elsewhere, set SWITCHYARD_HOME to that directory.',
    );
  }
  const client = createClient(dev.apiUrl, dev.keys);
  const answer = await client
    .call<{ items: Agent[] }>('GET', '/v1/agents?limit=100', { attempts: 2 })
    .catch((error: unknown) => {
      throw new Error(
        `Switchyard does not answer at ${dev.apiUrl} (named by ${file}): ${(error as Error).message}.\n` +
          'Run `npm start` in another terminal and wait until it says that Switchyard runs.',
      );
    });
  if (answer.status === 401 || answer.status === 403) {
    throw new Error(
      `What answers at ${dev.apiUrl} does not know the keys in ${file}: another system runs there, or its data was made anew.\n` +
        'Stop it, run `npm start`, and try again.',
    );
  }
  if (answer.status !== 200) throw new Error(`GET ${dev.apiUrl}/v1/agents: ${answer.status}`);
  checkAgents(answer.body.items);
  await checkChannels(client);
  return client;
}

async function checkChannels(client: Client): Promise<void> {
  const channels = await client.listAll<{ key: string }>('/v1/channels');
  const missing = ['web', 'email'].filter((key) => !channels.some((channel) => channel.key === key));
  if (missing.length === 0) return;
  throw new Error(
    `The demo writes on the channels web and email; the workspace has no ${missing.join(' and no ')}. Make what is missing: POST /v1/channels {key, name}.`,
  );
}

function checkAgents(agents: readonly Agent[]): void {
  if (agents.length === 0) {
    throw new Error('The workspace has no agents: nobody would answer. Make one (POST /v1/agents) and try again.');
  }
  const full = agents.filter(({ load, capacity }) => load >= capacity);
  if (full.length < agents.length) return;
  throw new Error(
    'Every agent is full with conversations that are open already, so those of the demo would only wait.\n' +
      'Close some (POST /v1/conversations/{id}/close) or raise a capacity (PATCH /v1/agents/{id}), and try again.',
  );
}
