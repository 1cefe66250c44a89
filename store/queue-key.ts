import { createHash } from 'node:crypto';
import { queueKeyText, type QueueKeyFacts } from '../routing/requirements.ts';

/**
 * The group in its team's queue that a conversation belongs to: equal for all that the very same agents may take, and whose target is the same,
 * so that of two with one priority the older is served first. As it is where it is short, so that people can read it; else a digest, since an
 * index takes no long texts.
 *
 * A target of its own stands before that, in six digits: whoever counts entries of the index need not look into the table for it.
 */
export function queueKeyOf({ slaSeconds, ...asked }: QueueKeyFacts & { readonly slaSeconds: number | null }): string {
  const text = queueKeyText(asked);
  const key = text.length <= maxChars ? text : createHash('sha256').update(text).digest('base64url');
  return slaSeconds === null ? key : `${slaMark}${String(slaSeconds).padStart(slaDigits, '0')}${key}`;
}

/** SQL for the target that a row in a queue has by its own, in seconds; null: that of its team counts. */
export const slaInQueueSql = (row: string): string =>
  `CASE WHEN starts_with(${row}.queue_key, '${slaMark}') THEN substr(${row}.queue_key, ${slaMark.length + 1}, ${slaDigits})::float8 END`;

/** Nothing else begins so: other keys begin with a bracket, or a letter, a digit, - or _ of a digest. */
const slaMark = '~';
const slaDigits = 6;

const maxChars = 120;
