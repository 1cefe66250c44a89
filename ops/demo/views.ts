import type { Board } from './board.ts';
import { formatPercentiles } from './percentile.ts';
import { fitText, padText } from './text-width.ts';

/** Shows the run while it goes on. */
export interface View {
  /** A new phase begins. */
  announce(phase: string): void;
  /** The last picture stays; what is written afterwards stands below it. A second time does nothing. */
  end(): void;
}

/** What a view needs of process.stdout. */
export interface Output {
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  /** False where NO_COLOR is set, as Node.js itself understands it. */
  hasColors?(): boolean;
  write(text: string): unknown;
  on?(event: 'resize', listener: () => void): unknown;
  off?(event: 'resize', listener: () => void): unknown;
}

export function createView(output: Output, read: () => Board): View {
  return output.isTTY === true ? createLiveView(output, read) : createPlainView(output, read);
}

const plainEveryMs = 2_000;
const redrawEveryMs = 100;

function createPlainView(output: Output, read: () => Board): View {
  const say = () => {
    const { elapsedMs, contacts, accepted, counts, assignedAfterMs, agents } = read();
    const online = agents.filter(({ presence }) => presence === 'online');
    output.write(
      `  ${formatElapsed(elapsedMs)}  contacts ${contacts.served}/${contacts.expected} served, messages ${accepted}, ` +
        `conversations ${counts.opened} (open ${counts.open}, waiting ${counts.waiting}, assigned ${counts.assigned}), ` +
        `open→assigned ${formatPercentiles(assignedAfterMs)}, ` +
        `agents ${online.map(({ name, load, capacity }) => `${name} ${load}/${capacity}`).join(', ')}\n`,
    );
  };
  let hasEnded = false;
  const timer = setInterval(say, plainEveryMs);
  return {
    announce: (phase) => void output.write(`${phase}\n`),
    end() {
      if (hasEnded) return;
      hasEnded = true;
      clearInterval(timer);
      say();
    },
  };
}

/**
 * Redraws in place: the cursor goes up over the lines of the last picture, and each is overwritten and only then cleared to its end, all
 * in one write between the marks of a synchronized update, so nothing flickers. No line is as wide as the terminal, so none wraps.
 */
function createLiveView(output: Output, read: () => Board): View {
  const isColored = output.hasColors?.() === true;
  let drawnLines = 0;
  const draw = () => {
    const columns = Math.max(20, (output.columns ?? 80) - 1);
    const lines = renderBoard(read(), { columns, rows: Math.max(8, (output.rows ?? 24) - 1), isColored });
    const up = drawnLines > 0 ? `\x1b[${drawnLines}A` : '';
    output.write(`\x1b[?2026h${up}\r${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J\x1b[?2026l`);
    drawnLines = lines.length;
  };
  const restart = () => {
    // The old lines may have wrapped: nobody knows how many there are now.
    output.write('\x1b[2J\x1b[H');
    drawnLines = 0;
    draw();
  };
  output.write('\x1b[?25l');
  output.on?.('resize', restart);
  let hasEnded = false;
  const timer = setInterval(draw, redrawEveryMs);
  return {
    announce: draw,
    end() {
      if (hasEnded) return;
      hasEnded = true;
      clearInterval(timer);
      output.off?.('resize', restart);
      draw();
      output.write('\x1b[?25h');
    },
  };
}

const styles = { bold: '1', dim: '2', green: '32', yellow: '33', cyan: '36' } as const;

/** Plain text first, cut to the width, and colours last: they take no columns. */
export function renderBoard(board: Board, size: { columns: number; rows: number; isColored: boolean }): string[] {
  const { columns, rows, isColored } = size;
  const paint = (style: keyof typeof styles, text: string) =>
    isColored && text !== '' ? `\x1b[${styles[style]}m${text}\x1b[0m` : text;
  const { contacts, counts, agents } = board;
  const fit = (text: string) => fitText(text, columns);
  const barColumns = Math.max(5, Math.min(40, columns - 40));
  const lines = [
    paint('bold', fit(`Switchyard demo  ${formatElapsed(board.elapsedMs)}`)),
    paint('cyan', fit(board.phase)),
    '',
    fit(
      `${drawBar(contacts.served, contacts.expected, barColumns)} ${contacts.served} of ${contacts.expected} contacts served`,
    ),
    fit(`Messages       ${board.accepted} accepted, ${board.duplicates} deliveries came again`),
    fit(
      `Conversations  ${counts.opened} opened: ${counts.open} open, ${counts.waiting} waiting, ` +
        `${counts.assigned} assigned, ${counts.closed} closed`,
    ),
    fit(`Open→assigned  ${formatPercentiles(board.assignedAfterMs)}`),
    '',
    ...agents.map(({ name, presence, load, capacity }) => {
      const mark = presence === 'online' ? '●' : '○';
      const width = Math.max(1, Math.min(capacity, 30));
      const text = fit(
        `${mark} ${padText(name, 18)} ${drawBar(load, capacity, width)} ${load}/${capacity} ${presence}`,
      );
      return paint(presence !== 'online' ? 'dim' : load >= capacity ? 'yellow' : 'green', text);
    }),
    '',
  ];
  const room = Math.max(0, Math.min(10, rows - lines.length));
  const tail = room === 0 ? [] : board.feed.slice(-room);
  return [...lines, ...tail.map((line) => paint('dim', fit(line)))].slice(0, rows);
}

function drawBar(value: number, total: number, columns: number): string {
  const filled = total === 0 ? 0 : Math.min(columns, Math.round((value / total) * columns));
  return '█'.repeat(filled) + '░'.repeat(columns - filled);
}

function formatElapsed(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
