import { isUtf8 } from 'node:buffer';
import { LogController, fastify, type FastifyBaseLogger, type FastifyInstance, type FastifyRequest } from 'fastify';
import { authenticateRequests } from './authentication.ts';
import { drainConnections } from './connection-drain.ts';
import type { ApiDeps } from './dependencies.ts';
import { documentRoutes } from './documentation.ts';
import { answerClientError, answerErrors, sendProblem } from './error-answers.ts';
import { measureRequests } from './http-metrics.ts';
import { problem } from './problems.ts';
import { limitRates } from './rate-limits.ts';
import { createRequestIds } from './request-ids.ts';
import { agentsRoutes } from './routes/agents.ts';
import { channelsRoutes } from './routes/channels.ts';
import { closeCategoriesRoutes } from './routes/close-categories.ts';
import { contactsRoutes } from './routes/contacts.ts';
import { conversationMessagesRoutes } from './routes/conversation-messages.ts';
import { conversationsRoutes } from './routes/conversations.ts';
import { deliveriesRoutes } from './routes/deliveries.ts';
import { eventsRoutes } from './routes/events.ts';
import { flowsRoutes } from './routes/flows.ts';
import { healthRoutes } from './routes/health.ts';
import { keysRoutes } from './routes/keys.ts';
import { messagesRoutes } from './routes/messages.ts';
import { offersRoutes } from './routes/offers.ts';
import { queuesRoutes } from './routes/queues.ts';
import { teamsRoutes } from './routes/teams.ts';
import { workspaceRoutes } from './routes/workspace.ts';
import { ajvOptions, prepareValidation } from './validation.ts';

/** The whole HTTP interface, not yet listening. It owns none of what it is given: the caller closes those after the app. */
export async function buildApp(deps: ApiDeps): Promise<FastifyInstance> {
  // By this type, so that the app is a FastifyInstance like any other.
  const loggerInstance: FastifyBaseLogger = deps.logger;
  const app = fastify({
    loggerInstance,
    // Requests are counted and timed by metrics; a line each would cost more than answering them.
    logController: new LogController({ disableRequestLogging: true }),
    // A logger of its own for each request took 4 % of the time of a message, and only failures are logged: they name their request.
    childLoggerFactory: (logger) => logger,
    genReqId: createRequestIds(),
    bodyLimit: 256 * 1024,
    requestTimeout: 30_000,
    // Whoever is connected already is served while the app closes; new connections are refused by then.
    return503OnClosing: false,
    ajv: ajvOptions,
    frameworkErrors: (error, request, reply) => void sendProblem(error, request as FastifyRequest, reply as never),
    clientErrorHandler: answerClientError,
  });
  acceptJsonOnly(app);
  answerErrors(app);
  drainConnections(app);
  measureRequests(app, deps.metrics);
  authenticateRequests(app, deps.keys);
  limitRates(app, deps.config, deps.metrics);
  prepareValidation(app);
  await documentRoutes(app);

  await app.register(healthRoutes(deps));
  const resources = [
    messagesRoutes,
    contactsRoutes,
    conversationsRoutes,
    conversationMessagesRoutes,
    offersRoutes,
    agentsRoutes,
    teamsRoutes,
    queuesRoutes,
    flowsRoutes,
    eventsRoutes,
    channelsRoutes,
    deliveriesRoutes,
    closeCategoriesRoutes,
    workspaceRoutes,
    keysRoutes,
  ];
  for (const createRoutes of resources) await app.register(createRoutes(deps), { prefix: '/v1' });
  return app;
}

function acceptJsonOnly(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    // Many clients name the type even when they send nothing; whether a body is needed is the schema's business.
    if (body.length === 0) done(null, undefined);
    // Decoded regardless, it would be stored with other characters than were sent.
    else if (!isUtf8(body)) done(problem('bad_json', { detail: 'The body is not valid UTF-8. Send JSON as UTF-8.' }));
    else void parseJson(request, body.toString(), done);
  });
}
