/**
 * HTTP/1.1 over kept connections, one request at a time on each, written out by hand: the load generator shares the machine with what
 * it measures. It takes from the protocol what our API sends: a status, `content-length`, and a body.
 */
import { connect, type Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export interface Connections {
  request(method: 'GET' | 'POST', path: string, options: { key: string; body?: string }): Promise<Answer>;
  close(): void;
}

/** As many connections as there are requests at once; a request that its connection loses is rejected, never sent again. */
export function createConnections(url: string): Connections {
  const { hostname, port, host } = new URL(url);
  const idle: Connection[] = [];
  const all = new Set<Connection>();

  function open(): Connection {
    const connection = createConnection(connect({ host: hostname, port: Number(port), noDelay: true }), {
      onIdle: () => idle.push(connection),
      onGone: () => {
        all.delete(connection);
        const place = idle.indexOf(connection);
        if (place !== -1) idle.splice(place, 1);
      },
    });
    all.add(connection);
    return connection;
  }

  return {
    request(method, path, { key, body }) {
      const content =
        body === undefined ? '' : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`;
      const head = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${key}\r\n${content}\r\n`;
      return (idle.pop() ?? open()).send(head + (body ?? ''));
    },
    close() {
      for (const connection of all) connection.end();
    },
  };
}

interface Connection {
  send(text: string): Promise<Answer>;
  end(): void;
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

function createConnection(socket: Socket, { onIdle, onGone }: { onIdle: () => void; onGone: () => void }): Connection {
  let waiting: Waiting | null = null;
  let received: Buffer | null = null;

  socket.on('data', (chunk) => {
    received = received === null ? chunk : Buffer.concat([received, chunk]);
    const read = readAnswer(received);
    if (read === null) return;
    received = null;
    const { resolve } = waiting!;
    waiting = null;
    if (read.isLast) socket.end();
    else onIdle();
    resolve(read.answer);
  });
  socket.on('error', (error) => waiting?.reject(error));
  socket.on('close', () => {
    onGone();
    waiting?.reject(new Error('the connection was closed before the answer'));
  });

  return {
    send: (text) =>
      new Promise((resolve, reject) => {
        waiting = { resolve, reject };
        socket.write(text);
      }),
    end: () => socket.destroy(),
  };
}

/** Null as long as some of it is missing. */
function readAnswer(received: Buffer): { answer: Answer; isLast: boolean } | null {
  const headEnd = received.indexOf('\r\n\r\n');
  if (headEnd === -1) return null;
  const head = received.toString('latin1', 0, headEnd);
  const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
  const bodyStart = headEnd + 4;
  if (received.length < bodyStart + length) return null;
  return {
    answer: {
      // HTTP/1.1 202 Accepted
      status: Number(head.slice(9, 12)),
      text: received.toString('utf8', bodyStart, bodyStart + length),
    },
    isLast: /\r\nconnection: *close/i.test(head),
  };
}
