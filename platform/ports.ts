import { createServer } from 'node:net';

/** Whether a TCP port can be listened on now. Nothing reserves it: whoever uses it must still bear losing it. */
export function isPortFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return listenOnce(port, host).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') return false;
      throw error;
    },
  );
}

/** The preferred port when it is free, else any free one. */
export async function findFreePort(preferred?: number | null, host = '127.0.0.1'): Promise<number> {
  if (preferred && (await isPortFree(preferred, host))) return preferred;
  return listenOnce(0, host);
}

/** The first free port from `first` upwards, none of `taken`; the next hundred are tried. */
export async function findNextFreePort(first: number, host = '127.0.0.1', taken: number[] = []): Promise<number> {
  for (let port = first; port < first + 100; port += 1) {
    if (!taken.includes(port) && (await isPortFree(port, host))) return port;
  }
  return findFreePort(null, host);
}

function listenOnce(port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : port));
    });
  });
}
