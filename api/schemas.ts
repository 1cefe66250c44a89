import {
  Type,
  type Static,
  type TObject,
  type TProperties,
  type TSchema,
  type TUnsafe,
} from '@fastify/type-provider-typebox';
import { PROBLEM_CONTENT_TYPE, problem } from './problems.ts';

/** An object that names whatever it does not know: a misspelt field is a fault, not silently dropped. */
export function Body<P extends TProperties>(properties: P, options: { description?: string } = {}): TObject<P> {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

const UUID_PATTERN = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$';
const UUID = new RegExp(UUID_PATTERN);

/** Ids are given out by the server, in lower case. A malformed id in a path answers 404 like an unknown one. */
export const Id = Type.String({
  pattern: UUID_PATTERN,
  description: 'UUIDv7, in lower case',
  fault: 'is no id',
  mend: 'Send an id as this API gave it out.',
  examples: ['01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11'],
});

export const NullableId = Nullable(Id);

export const IdParams = Type.Object({ id: Id });

/** Non-empty text of at most `maxLength` code points. NUL and lone surrogates are refused for whole bodies, in text-check.ts. */
export function SafeText(
  maxLength: number,
  options: { minLength?: number; description?: string; examples?: string[] } = {},
) {
  return Type.String({ minLength: 1, maxLength, ...options });
}

/** What people call something: with blanks at its ends, two names would look the same. Sound for other texts that people compare. */
export function NameText(maxLength: number, options: { description?: string; examples?: string[] } = {}) {
  return Type.String({
    minLength: 1,
    maxLength,
    // Empty text is for minLength to tell.
    pattern: String.raw`^(\S([\s\S]*\S)?)?$`,
    fault: 'is blank, or begins or ends with a blank',
    mend: 'Send a name without blanks at its ends.',
    ...options,
  });
}

/** What is known of a contact: plain values by name, and no more than fit a message. */
export function Attributes(description: string) {
  return Type.Unsafe<Record<string, string | number | boolean | null>>({
    type: 'object',
    description,
    maxProperties: 50,
    propertyNames: { minLength: 1, maxLength: 64 },
    additionalProperties: { type: ['string', 'number', 'boolean', 'null'], maxLength: 1024 },
  });
}

/** Plain values become `type: [..., 'null']`, which the serialiser writes faster than an alternative of two schemas. */
export function Nullable<T extends TSchema>(schema: T): TUnsafe<Static<T> | null> {
  const { type, enum: words } = schema as { type?: unknown; enum?: unknown };
  const isPlain = (type === 'string' || type === 'integer' || type === 'number') && words === undefined;
  return Type.Unsafe<Static<T> | null>(
    isPlain ? { ...schema, type: [type, 'null'] } : { anyOf: [schema, { type: 'null' }] },
  );
}

/** A time in an answer. */
export const Timestamp = Type.String({ format: 'date-time', description: 'ISO 8601, UTC' });

/** A time in a request. Narrower than the format: a leap second is no Date, and the year 0 is none in PostgreSQL. */
export const TimestampInput = Type.String({
  format: 'date-time',
  pattern: '^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:[.][0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})$',
  description: 'RFC 3339 date-time with an offset',
  fault: 'is no point in time',
  mend: 'Send a date and time with an offset, such as 2026-03-01T09:30:00Z.',
  examples: ['2026-03-01T09:30:00Z'],
});

/** One of a few words, as `enum` in the OpenAPI document and with one clear fault when it is another. */
export function OneOf<const V extends readonly string[]>(values: V, options: { description?: string } = {}) {
  return Type.Unsafe<V[number]>({ type: 'string', enum: [...values], ...options });
}

export const listQueryProperties = {
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 50, description: 'How many items a page holds' }),
  cursor: Type.Optional(Type.String({ maxLength: 256, description: 'nextCursor of the page before' })),
};

/** Spread `listQueryProperties` to add filters. */
export const ListQuery = Type.Object(listQueryProperties, { additionalProperties: false });

export function listOf<T extends TSchema>(item: T) {
  return Type.Object({
    items: Type.Array(item),
    nextCursor: Nullable(Type.String({ description: 'null on the last page' })),
  });
}

/**
 * A page of a list that is ordered by id, or by what `cursorOf` tells. Ask the store for `limit + 1` rows after
 * `decodeCursor(query.cursor)`: the row too many tells that there is a next page.
 */
export function toPage<Row extends { id: string }, View>(
  rows: Row[],
  limit: number,
  view: (row: Row) => View,
  cursorOf: (row: Row) => string = ({ id }) => id,
) {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return {
    items: items.map(view),
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(cursorOf(last)) : null,
  };
}

export function encodeCursor(id: string): string {
  return Buffer.from(id, 'utf8').toString('base64url');
}

/** The id that a cursor stands for, or null when there is none. Throws invalid_request for one that we did not give out. */
export function decodeCursor(cursor: string | undefined, idPattern: RegExp = UUID): string | null {
  if (cursor === undefined) return null;
  const id = Buffer.from(cursor, 'base64url').toString('utf8');
  if (!idPattern.test(id)) {
    throw problem('invalid_request', {
      errors: [{ field: 'cursor', message: 'is not a cursor', mend: 'Send nextCursor of the page before, unchanged.' }],
    });
  }
  return id;
}

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'urn:switchyard:problem:<name>', examples: ['urn:switchyard:problem:not_found'] }),
    title: Type.String(),
    status: Type.Integer(),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later, unchanged' }),
    detail: Type.Optional(Type.String()),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          field: Type.String({ description: 'JSON pointer into the body, or the name of a parameter' }),
          message: Type.String(),
          mend: Type.Optional(Type.String()),
        }),
      ),
    ),
    requestId: Type.Optional(
      Type.String({ description: 'With 5xx: name it when you ask the operator, whose log has the cause under it' }),
    ),
  },
  { additionalProperties: true, description: 'RFC 9457 problem' },
);

/**
 * Response entries for the errors an operation can answer with: `response: { 200: View, ...errorResponses(404, 409) }`.
 * 400, 401, 403, 429, 500 and 503 are always among them, and documentation.ts adds 413 and 415 where a body may be sent.
 */
export function errorResponses(...statuses: number[]): Record<never, never> {
  return problemResponses(400, 401, 403, 429, 500, 503, ...statuses);
}

/** The same for operations without a key: only the statuses named. */
export function problemResponses(...statuses: number[]): Record<never, never> {
  // The type leaves the errors out on purpose: routes throw them, so what a route returns is checked against its own answer.
  const all = [...new Set(statuses)].sort((a, b) => a - b);
  return Object.fromEntries(all.map((status) => [status, errorResponse(status)]));
}

function errorResponse(status: number) {
  const headers = HEADERS[status];
  return {
    description: STATUS_WORDS[status] ?? 'Error',
    ...(headers === undefined ? {} : { headers }),
    content: { [PROBLEM_CONTENT_TYPE]: { schema: ProblemSchema } },
  };
}

const seconds = (description: string) => Type.Integer({ minimum: 0, description });

const retryAfter = { 'Retry-After': seconds('Seconds after which the same request may be sent again') };

const HEADERS: Record<number, Record<string, TSchema>> = {
  429: {
    ...retryAfter,
    'RateLimit-Limit': Type.Integer({
      description: 'How many the key may send at once. As the next two: only where a rate is set',
    }),
    'RateLimit-Remaining': Type.Integer({ description: 'How many it may send now' }),
    'RateLimit-Reset': seconds('Seconds until it may send as many at once again as RateLimit-Limit says'),
  },
  503: retryAfter,
};

const STATUS_WORDS: Record<number, string> = {
  400: 'The request is not valid',
  401: 'No valid key',
  403: 'The key does not allow this',
  404: 'Not found',
  409: 'Conflict',
  413: 'The body is too large',
  415: 'The body is not sent as application/json',
  422: 'The request names something that does not exist or lacks something',
  429: 'Too many requests, or event streams, with this key',
  500: 'Something went wrong here',
  503: 'Overloaded or the database cannot be reached; try again',
};
