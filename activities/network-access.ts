import type { Config } from '../platform/config.ts';
import { readFlowSecrets, type FlowSecrets } from '../platform/flow-secrets.ts';
import type { Logger } from '../platform/logger.ts';

/** Made once for each process: connections are kept by its lists. Throws a ConfigError when the file of secrets cannot be used. */
export function createNetworkAccess(config: NetworkConfig, logger: Pick<Logger, 'warn'>): NetworkAccess {
  const { classifyUrl: url, classifyModel: model, classifyApiKey: apiKey } = config;
  return {
    allowedHosts: new Set(config.enrichmentAllowedHosts),
    privateCidrs: config.privateCidrsAllowed,
    secrets: readFlowSecrets(config.flowSecretsFile, logger),
    classifier: url === undefined || model === undefined ? null : { url, model, apiKey },
  };
}

type NetworkConfig = Pick<
  Config,
  | 'enrichmentAllowedHosts'
  | 'privateCidrsAllowed'
  | 'flowSecretsFile'
  | 'classifyUrl'
  | 'classifyApiKey'
  | 'classifyModel'
>;

/** What enrichment may reach. */
export interface NetworkAccess {
  readonly allowedHosts: ReadonlySet<string>;
  readonly privateCidrs: readonly string[];
  readonly secrets: FlowSecrets;
  /** Null: none was set up. */
  readonly classifier: Classifier | null;
}

/** A server that speaks the OpenAI chat completions API. */
export interface Classifier {
  /** Without a slash at its end. */
  readonly url: string;
  readonly model: string;
  readonly apiKey: string | undefined;
}
