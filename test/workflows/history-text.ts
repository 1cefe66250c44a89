/** Everything that a history holds, as text: payloads decoded, whatever their depth. */
export function textOfHistory(history: unknown): string {
  const texts: string[] = [];
  const visit = (value: unknown): void => {
    if (value instanceof Uint8Array) texts.push(Buffer.from(value).toString('utf8'));
    else if (typeof value === 'string') texts.push(value, decodeBase64(value));
    else if (typeof value === 'object' && value !== null) {
      for (const [key, child] of Object.entries(value)) {
        texts.push(key);
        visit(child);
      }
    }
  };
  visit(history);
  return texts.join('\n');
}

const decodeBase64 = (text: string): string =>
  /^[A-Za-z0-9+/]{8,}={0,2}$/.test(text) ? Buffer.from(text, 'base64').toString('utf8') : '';
