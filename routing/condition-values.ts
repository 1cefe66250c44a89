import { spendOnMembers, type Bindings } from './condition-functions.ts';

type Value = Bindings[string];

/**
 * An object of JSON as conditions see it. A map instead of the plain object: of that the library reads the `constructor`, which here is the user's
 * data. It copies nothing, as a contact may have gathered tens of thousands of attributes: finding one by name costs the same however many
 * there are, and going through all of them is paid for.
 */
export class JsonMembers extends Map<string, Value> {
  readonly #members: Readonly<Record<string, unknown>>;
  #names: readonly string[] | undefined;

  constructor(members: Readonly<Record<string, unknown>>) {
    super();
    this.#members = members;
  }

  override get size(): number {
    return this.#allNames().length;
  }

  override has(name: string): boolean {
    return Object.hasOwn(this.#members, name);
  }

  override get(name: string): Value | undefined {
    if (typeof name !== 'string' || !this.has(name)) return undefined;
    return celOfJson(this.#members[name]);
  }

  override *keys(): MapIterator<string> {
    const names = this.#allNames();
    spendOnMembers(names.length);
    yield* names;
  }

  override *entries(): MapIterator<[string, Value]> {
    for (const name of this.keys()) yield [name, this.get(name)!];
  }

  override *values(): MapIterator<Value> {
    for (const [, value] of this.entries()) yield value;
  }

  override [Symbol.iterator](): MapIterator<[string, Value]> {
    return this.entries();
  }

  override forEach(visit: (value: Value, name: string, all: Map<string, Value>) => void): void {
    for (const [name, value] of this.entries()) visit(value, name, this);
  }

  #allNames(): readonly string[] {
    return (this.#names ??= Object.keys(this.#members));
  }
}

function celOfJson(value: unknown): Value {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (Array.isArray(value)) {
    spendOnMembers(value.length);
    return value.map(celOfJson);
  }
  if (typeof value === 'object' && value !== null) return new JsonMembers(value as Record<string, unknown>);
  return null;
}
