/*
 * What the person at the terminal sees of a start: one line a step, with its time. On a terminal the line of the step under way is
 * redrawn, with what it is at; elsewhere (CI, a log file) plain lines come, and a sign of life every ten seconds.
 */

export interface Steps {
  /** Runs a step; what `work` returns is passed on. `describe` makes the end of its line. */
  run<T>(
    title: string,
    work: (note: (detail: string) => void) => Promise<T>,
    describe?: (result: T) => string,
  ): Promise<T>;
  /** A line of its own, between steps or in the middle of one. */
  say(line: string): void;
  /** Closes the line of the step under way; what becomes of that step is not told any more. */
  interrupt(): void;
}

export interface StepsOutput {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const lifeSignMs = 10_000;

export function createSteps(output: StepsOutput): Steps {
  const isLive = output.isTTY === true;
  let drawLive: (() => void) | null = null;
  let endCurrent: ((mark: string, text: string) => void) | null = null;

  function say(line: string): void {
    output.write(`${drawLive === null ? '' : '\r\x1b[K'}${line}\n`);
    drawLive?.();
  }

  async function run<T>(
    title: string,
    work: (note: (detail: string) => void) => Promise<T>,
    describe: (result: T) => string = () => '',
  ): Promise<T> {
    const startedAt = Date.now();
    let detail = '';
    let saidDetail = '';
    let frame = 0;
    const elapsed = () => formatElapsed(Date.now() - startedAt);
    const draw = () => {
      frame += 1;
      const line = `${frames[frame % frames.length]} ${title} ${elapsed()}${detail === '' ? '' : ` · ${detail}`}`;
      output.write(`\r\x1b[K${line.slice(0, (output.columns ?? 80) - 1)}`);
    };
    const sayAlive = () => {
      say(`  ${title}: ${elapsed()} so far${detail === saidDetail ? '' : `, ${detail}`}`);
      saidDetail = detail;
    };
    if (isLive) drawLive = draw;
    else say(`… ${title}`);
    const timer = setInterval(isLive ? draw : sayAlive, isLive ? 100 : lifeSignMs);
    const end = (mark: string, text: string) => {
      if (endCurrent !== end) return;
      clearInterval(timer);
      drawLive = null;
      endCurrent = null;
      output.write(`${isLive ? '\r\x1b[K' : ''}${mark} ${title}${text === '' ? '' : ` · ${text}`} (${elapsed()})\n`);
    };
    endCurrent = end;
    try {
      const result = await work((text) => {
        detail = text.split('\n')[0] ?? '';
      });
      end('✔', describe(result));
      return result;
    } catch (error) {
      end('✘', 'failed');
      throw error;
    }
  }

  return { run, say, interrupt: () => endCurrent?.('–', 'interrupted') };
}

function formatElapsed(ms: number): string {
  return ms < 60_000
    ? `${(ms / 1000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
}
