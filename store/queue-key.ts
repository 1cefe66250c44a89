import { createHash } from 'node:crypto';
import { queueKeyText } from '../routing/requirements.ts';

/**
 * The group in its team's queue that a conversation belongs to: equal for all that the very same agents may take. As it is where it
 * is short, so that people can read it; else a digest, since an index takes no long texts.
 */
export function queueKeyOf(asked: Parameters<typeof queueKeyText>[0]): string {
  const text = queueKeyText(asked);
  return text.length <= maxChars ? text : createHash('sha256').update(text).digest('base64url');
}

const maxChars = 120;
