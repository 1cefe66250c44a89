import { randomBytes } from 'node:crypto';

/**
 * Names requests for logs and for answers of 5xx. A counter behind a random beginning for each process: unique across processes and restarts, and
 * no randomness is drawn for each request.
 */
export function createRequestIds(): () => string {
  const beginning = randomBytes(6).toString('hex');
  let count = 0;
  return () => `${beginning}-${(count += 1).toString(36)}`;
}
