// Every error leaves as problem+json: what routes throw, what Fastify refuses before a route runs, what breaks below.
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BatcherClosedError, QueueFullError } from '../platform/micro-batcher.ts';
import { isDatabaseUnavailable } from '../platform/pool.ts';
import {
  PROBLEM_CONTENT_TYPE,
  Problem,
  problem,
  type FieldFault,
  type ProblemBody,
  type ProblemName,
} from './problems.ts';
import type { Principal } from './principal.ts';
import { describeFaults, type ValidationFault } from './validation.ts';

export function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler((error: Error, request, reply) => sendProblem(error, request, reply));
  app.setNotFoundHandler((request, reply) =>
    sendProblem(problem('not_found', { detail: 'There is no such route.' }), request, reply),
  );
}

/** Also for errors that Fastify meets before there is a route (`frameworkErrors`). */
export function sendProblem(error: Error, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const answer = (error as Partial<FastifyError>).code === tooLarge ? describeSize(request) : toProblem(error);
  if (answer.statusCode >= 500) logFailure(answer, request);
  if (answer.retryAfterSeconds !== undefined) reply.header('retry-after', answer.retryAfterSeconds);
  if (answer.statusCode === 401) reply.header('www-authenticate', 'Bearer');
  // Serialised here: the route's own serialisers know its successes only.
  return reply
    .code(answer.statusCode)
    .type(PROBLEM_CONTENT_TYPE)
    .send(JSON.stringify(viewProblem(answer, request)));
}

/** The body of the answer. What failed on our side names the request, by which the log has the cause. */
export function viewProblem({ body, statusCode }: Problem, { id: requestId }: FastifyRequest): ProblemBody {
  return statusCode >= 500 ? { ...body, requestId } : body;
}

/** The catalogue's entry for whatever was thrown. What is not foreseen is `internal`, and tells the caller nothing more. */
export function toProblem(error: Error): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof QueueFullError || error instanceof BatcherClosedError) {
    return problem('overloaded', { cause: error });
  }
  if (isDatabaseUnavailable(error)) return problem('unavailable', { cause: error });
  const { code, validation, validationContext } = error as Partial<FastifyError>;
  if (validation !== undefined) return describeValidation(validation, validationContext);
  const name = code === undefined ? undefined : FRAMEWORK_PROBLEMS[code];
  if (name !== undefined) return problem(name, { detail: error.message, cause: error });
  if (error instanceof SyntaxError && (error as Partial<FastifyError>).statusCode === 400) {
    return problem('bad_json', { detail: error.message, cause: error });
  }
  return problem('internal', { cause: error });
}

const tooLarge = 'FST_ERR_CTP_BODY_TOO_LARGE';

const describeSize = ({ routeOptions }: FastifyRequest): Problem =>
  problem('payload_too_large', {
    detail: `At most ${routeOptions.bodyLimit} bytes are taken here. Send less at a time.`,
  });

const FRAMEWORK_PROBLEMS: Record<string, ProblemName> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'bad_json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'bad_json',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'bad_json',
  FST_ERR_BAD_URL: 'not_found',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
};

const NO_ID = 'What stands in the address is no id as this API gives them out; a key or a name is none.';

function describeValidation(faults: ValidationFault[], context: string | undefined): Problem {
  // A malformed id names nothing that exists, like an id that was never given out.
  if (context === 'params') return problem('not_found', { detail: NO_ID });
  const errors: FieldFault[] = describeFaults(faults, context === 'body' ? 'pointer' : 'name');
  return problem('invalid_request', { errors });
}

/** What arrives is no HTTP request, so there is neither a route nor a reply: the answer is written to the socket. */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy(error);
    return;
  }
  const { statusCode, body } = problem(SOCKET_PROBLEMS[error.code ?? ''] ?? 'bad_http');
  const text = JSON.stringify(body);
  const head = [
    `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode]}`,
    `Content-Type: ${PROBLEM_CONTENT_TYPE}`,
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`);
}

const SOCKET_PROBLEMS: Record<string, ProblemName> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'headers_too_large',
};

/** One line for an answer of 5xx, or for what failed so within a batch. */
export function logFailure(failure: Problem, request: FastifyRequest): void {
  const { id: requestId, method, routeOptions } = request;
  // Nobody, where the key could not be looked up.
  const principal = request.principal as Principal | null;
  const context = {
    requestId,
    workspaceId: principal?.workspaceId,
    keyId: principal?.keyId,
    problem: failure.problemName,
    method,
    route: routeOptions.url,
  };
  const error = (failure.cause ?? failure) as Error;
  // A load peak or a lost database answers thousands of requests alike: one short line each, the stack only for bugs.
  if (failure.problemName === 'internal') request.log.error({ ...context, err: error }, 'request failed');
  else request.log.warn({ ...context, reason: error.message }, 'request refused');
}
