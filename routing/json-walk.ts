/** Reading JSON of which nothing is known: what is not there, or not of the expected shape, is undefined or empty. */

/** The first entries of a list, each with its JSON pointer, which begins with `path`. */
export function itemsAt(value: unknown, path: string, maxItems: number): [path: string, item: unknown][] {
  const list = valueAt(value, path);
  return Array.isArray(list) ? list.slice(0, maxItems).map((item, index) => [`${path}/${index}`, item]) : [];
}

/** `path` is a JSON pointer through objects whose names need no escape. */
export function valueAt(value: unknown, path: string): unknown {
  return path
    .slice(1)
    .split('/')
    .reduce<unknown>((owner, key) => (isObject(owner) && Object.hasOwn(owner, key) ? owner[key] : undefined), value);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
