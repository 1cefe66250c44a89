/** The load generator as its parent sees it. It is a process of its own, so that what it costs is told apart, and can be. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LoadReport, LoadStep, LoadTarget } from './load-generator.ts';
import { startCpuMeter, type Component, type ComponentCpu } from './process-cpu.ts';

export type LoadAnswer =
  | { readonly kind: 'ready' | 'measuring' | 'measured' }
  | { readonly kind: 'report'; readonly report: LoadReport }
  | { readonly kind: 'failed'; readonly reason: string };

export interface MeasuredStep extends LoadReport {
  /** Over the measured time, by component; nothing where the system does not tell. */
  readonly cpu: readonly ComponentCpu[];
}

export interface Load {
  /** One at a time. */
  run(step: LoadStep): Promise<MeasuredStep>;
  readonly pid: number;
  stop(): Promise<void>;
}

/** @param components whose CPU time is measured beside the generator's own */
export async function startLoad(target: LoadTarget, components: readonly Component[] = []): Promise<Load> {
  const child = fork(fileURLToPath(new URL('./load-process.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit');
  const all: Component[] = [...components, { name: 'load generator', pids: [child.pid!] }];

  /** Resolves with what `take` makes of an answer; rejects when the process fails or ends. */
  function ask<T>(request: object, take: (answer: LoadAnswer) => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        child.off('message', onAnswer);
        child.off('exit', onExit);
        act();
      };
      const onAnswer = (answer: LoadAnswer): void => {
        if (answer.kind === 'failed')
          return settle(() => reject(new Error(`the load generator failed: ${answer.reason}`)));
        const value = take(answer);
        if (value !== undefined) settle(() => resolve(value));
      };
      const onExit = (code: number | null): void =>
        settle(() => reject(new Error(`the load generator ended with exit code ${code}`)));
      child.on('message', onAnswer);
      child.on('exit', onExit);
      child.send(request);
    });
  }

  const { apiUrls, workspaces } = target;
  await ask({ target: { apiUrls, workspaces } }, ({ kind }) => kind === 'ready' || undefined);
  return {
    pid: child.pid!,
    run(step) {
      let readCpu: (() => readonly ComponentCpu[]) | null = null;
      let cpu: readonly ComponentCpu[] = [];
      return ask({ step }, (answer) => {
        if (answer.kind === 'measuring') readCpu = startCpuMeter(all);
        if (answer.kind === 'measured') cpu = readCpu?.() ?? [];
        return answer.kind === 'report' ? { ...answer.report, cpu } : undefined;
      });
    },
    async stop() {
      child.disconnect();
      await ended;
    },
  };
}
