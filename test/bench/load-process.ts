/** The load generator's process: does what its parent tells it, and ends with it. */
import { createLoadGenerator, type LoadGenerator, type LoadStep, type LoadTarget } from './load-generator.ts';
import type { LoadAnswer } from './load.ts';

let generator: LoadGenerator | null = null;

process.on('message', (request: { target: LoadTarget } | { step: LoadStep }) => {
  carryOut(request).catch((error: Error) => tell({ kind: 'failed', reason: error.stack ?? error.message }));
});
process.on('disconnect', () => process.exit());

async function carryOut(request: { target: LoadTarget } | { step: LoadStep }): Promise<void> {
  if ('target' in request) {
    generator = await createLoadGenerator(request.target);
    return tell({ kind: 'ready' });
  }
  if (generator === null) throw new Error('a step was told before the target');
  tell({ kind: 'report', report: await generator.run(request.step, (phase) => tell({ kind: phase })) });
}

function tell(answer: LoadAnswer): void {
  process.send!(answer);
}
