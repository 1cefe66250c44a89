import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/** How long requests under way may still take once the app closes. */
const GRACE_MS = 10_000;
const SWEEP_MS = 50;

/**
 * Lets a closing server end. Node closes the connections that are idle when the close begins, but neither those that become idle
 * later, when their request under way was answered, nor those that never sent one, which clients and load balancers hold in
 * reserve: either would keep the process until its deadline. Both are closed; requests under way have a grace.
 */
export function drainConnections(app: FastifyInstance): void {
  const silent = new Set<Socket>();
  app.server.on('connection', (socket: Socket) => {
    silent.add(socket);
    socket.once('close', () => silent.delete(socket));
  });
  app.server.on('request', (request) => silent.delete(request.socket));

  app.addHook('preClose', (done) => {
    if (!app.server.listening) return done();
    const closeUnused = (): void => {
      silent.forEach((socket) => socket.destroy());
      app.server.closeIdleConnections();
    };
    closeUnused();
    const sweep = setInterval(closeUnused, SWEEP_MS);
    const deadline = setTimeout(() => app.server.closeAllConnections(), GRACE_MS);
    app.server.once('close', () => {
      clearInterval(sweep);
      clearTimeout(deadline);
    });
    done();
  });
}
