// Every error this API answers with, in one table. The name is the stable part: clients switch on `type`, never on words.
const CATALOGUE = {
  bad_http: { status: 400, title: 'This is not an HTTP request', retryable: false },
  bad_json: { status: 400, title: 'The body is not valid JSON', retryable: false },
  invalid_request: { status: 400, title: 'The request does not fit its schema', retryable: false },
  unauthorized: { status: 401, title: 'A valid key is required', retryable: false },
  forbidden: { status: 403, title: 'The key does not allow this', retryable: false },
  not_found: { status: 404, title: 'Not found', retryable: false },
  request_timeout: { status: 408, title: 'The request took too long to arrive', retryable: true },
  'conflict.already_open': { status: 409, title: 'The contact has an open conversation', retryable: false },
  'conflict.archived': { status: 409, title: 'The flow is archived', retryable: false },
  'conflict.closed': { status: 409, title: 'The conversation is closed', retryable: false },
  'conflict.closing': { status: 409, title: 'The conversation is being closed', retryable: false },
  'conflict.key_of_another_contact': {
    status: 409,
    title: 'The external id belongs to a message of another contact',
    retryable: false,
  },
  'conflict.identity_of_another_contact': {
    status: 409,
    title: 'The identity belongs to another contact',
    retryable: false,
  },
  'conflict.no_room': { status: 409, title: 'The agent has no room', retryable: true },
  'conflict.not_offered': { status: 409, title: 'The conversation is not offered to this agent', retryable: false },
  'conflict.name_taken': { status: 409, title: 'The name is taken', retryable: false },
  'conflict.too_many': { status: 409, title: 'There are as many of these as there may be', retryable: false },
  'conflict.key_taken': { status: 409, title: 'The key is taken', retryable: false },
  payload_too_large: { status: 413, title: 'The body is too large', retryable: false },
  unsupported_media_type: { status: 415, title: 'The body must be application/json', retryable: false },
  unknown_reference: { status: 422, title: 'The request names something that does not exist', retryable: false },
  close_notes: { status: 422, title: 'The close does not note what the workspace wants', retryable: false },
  agent_required: { status: 422, title: 'The request must name the acting agent', retryable: false },
  invalid_flow: { status: 422, title: 'The flow is not valid', retryable: false },
  flow_order: { status: 422, title: 'The order does not name every flow once', retryable: false },
  headers_too_large: { status: 431, title: 'The headers are too large', retryable: false },
  rate_limited: { status: 429, title: 'Too many requests with this key', retryable: true, retryAfterSeconds: 1 },
  too_many_streams: {
    status: 429,
    title: 'Too many event streams are open with this key',
    retryable: true,
    retryAfterSeconds: 5,
  },
  internal: { status: 500, title: 'Something went wrong here', retryable: true },
  overloaded: { status: 503, title: 'Too much is waiting to be stored', retryable: true, retryAfterSeconds: 1 },
  unavailable: { status: 503, title: 'The database cannot serve this now', retryable: true, retryAfterSeconds: 1 },
  streams_full: {
    status: 503,
    title: 'Too many event streams are open here',
    retryable: true,
    retryAfterSeconds: 5,
  },
  not_ready: { status: 503, title: 'Not ready', retryable: true, retryAfterSeconds: 1 },
} as const satisfies Record<string, CatalogueEntry>;

interface CatalogueEntry {
  status: number;
  title: string;
  /** Whether the same request may succeed later without being changed. */
  retryable: boolean;
  retryAfterSeconds?: number;
}

export type ProblemName = keyof typeof CATALOGUE;

export const PROBLEM_CONTENT_TYPE = 'application/problem+json';

/** One fault of a request. `field` is a JSON pointer into the body, or the name of a query parameter or header. */
export interface FieldFault {
  field: string;
  message: string;
  /** What to send instead. */
  mend?: string;
}

export interface ProblemOptions {
  detail?: string;
  errors?: FieldFault[];
  /** Further members of the body, such as the id of the conversation that is already open. */
  extra?: Record<string, unknown>;
  /** Where it is known better than the catalogue does. */
  retryAfterSeconds?: number;
  cause?: unknown;
}

/** The body of an error, as RFC 9457 has it. */
export interface ProblemBody {
  type: string;
  title: string;
  status: number;
  retryable: boolean;
  detail?: string;
  errors?: FieldFault[];
  /** Of an answer of 5xx: `requestId` of its line in the log. */
  requestId?: string;
  [member: string]: unknown;
}

/** Makes an error to be thrown by a route: `throw problem('not_found')`. */
export function problem(name: ProblemName, options: ProblemOptions = {}): Problem {
  return new Problem(name, options);
}

export class Problem extends Error {
  readonly problemName: ProblemName;
  readonly statusCode: number;
  readonly retryAfterSeconds: number | undefined;
  readonly body: ProblemBody;

  constructor(name: ProblemName, options: ProblemOptions = {}) {
    const entry: CatalogueEntry = CATALOGUE[name];
    super(options.detail ?? entry.title, { cause: options.cause });
    this.name = 'Problem';
    this.problemName = name;
    this.statusCode = entry.status;
    this.retryAfterSeconds = options.retryAfterSeconds ?? entry.retryAfterSeconds;
    this.body = {
      ...options.extra,
      type: `urn:switchyard:problem:${name}`,
      title: entry.title,
      status: entry.status,
      retryable: entry.retryable,
      ...(options.detail === undefined ? {} : { detail: options.detail }),
      ...(options.errors === undefined ? {} : { errors: options.errors }),
    };
  }
}

/** All names with their entries, for documents and tests. */
export function listProblems(): [ProblemName, CatalogueEntry][] {
  return Object.entries(CATALOGUE) as [ProblemName, CatalogueEntry][];
}
