/** The system behind the channels, in a process of its own: `fork` it with the options as JSON. Says on which port it listens, and ends with its parent. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const { delayMs } = JSON.parse(process.argv[2]!) as { delayMs: number };

const server = createServer((request, response) => {
  request.resume().on('end', () => {
    const answer = () => response.writeHead(204).end();
    if (delayMs === 0) answer();
    else setTimeout(answer, delayMs);
  });
});
server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port));
process.once('disconnect', () => process.exit());
