import { createFirstPlaces, type FlowFault } from './flow-faults.ts';
import { MAX_HOLIDAYS, MAX_SPANS, type BusinessHours } from './hours-schema.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';

/**
 * Whether a business is open. The spans are times on the wall clock of its zone, and it is that clock which is compared: a change to or from summer
 * time needs no rule. A span across midnight is written as two, the first until 24:00. A holiday replaces its whole day.
 * A zone that this machine does not know is closed; publishing refuses it.
 */
export function isOpen(hours: BusinessHours, nowMs: number): boolean {
  const local = localTimeAt(hours.timeZone, nowMs);
  if (local === null) return false;
  const holiday = hours.holidays?.find(({ date }) => date === local.date);
  const spans = holiday === undefined ? hours.weekly[local.day] : holiday.open;
  return spans?.some(({ from, to }) => minutesOf(from) <= local.minutes && local.minutes < minutesOf(to)) ?? false;
}

const DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const;

interface LocalTime {
  /** YYYY-MM-DD */
  readonly date: string;
  readonly day: (typeof DAYS)[number];
  readonly minutes: number;
}

/** What a schema cannot tell about one entry of `hours`. Values of the wrong shape are passed over: their fault is known. */
export function hoursFaults(path: string, hours: unknown): FlowFault[] {
  const holidays = itemsAt(hours, '/holidays', MAX_HOLIDAYS);
  return [
    ...zoneFaults(`${path}/timeZone`, valueAt(hours, '/timeZone')),
    ...DAYS.flatMap((day) => spanFaults(path, `/weekly/${day}`, hours)),
    ...holidays.flatMap(([place, holiday]) => spanFaults(`${path}${place}`, '/open', holiday)),
    ...dateFaults(path, holidays),
  ];
}

const DAY_MS = 86_400_000;

function zoneFaults(path: string, timeZone: unknown): FlowFault[] {
  if (typeof timeZone !== 'string' || clockOf(timeZone) !== null) return [];
  return [{ path, message: 'is no known time zone', mend: 'Give a name of the IANA list, such as Europe/Berlin.' }];
}

function spanFaults(path: string, place: string, owner: unknown): FlowFault[] {
  const spans = itemsAt(owner, place, MAX_SPANS).flatMap(([spanPlace, span]) => {
    const [from, to] = [valueAt(span, '/from'), valueAt(span, '/to')];
    if (!isTime(from) || !isTime(to)) return [];
    return [{ path: `${path}${spanPlace}`, from: minutesOf(from), to: minutesOf(to) }];
  });
  const faults: FlowFault[] = spans
    .filter(({ from, to }) => from >= to)
    .map((span) => ({
      path: span.path,
      message: 'ends before it begins',
      mend: 'Give a later time as `to`; a span across midnight is two: until 24:00, and from 00:00 on the next day.',
    }));
  const ordered = spans.filter(({ from, to }) => from < to).sort((one, other) => one.from - other.from);
  let latest = ordered[0];
  for (const span of ordered.slice(1)) {
    if (latest !== undefined && span.from < latest.to) {
      faults.push({ path: span.path, message: 'overlaps with', at: latest.path, mend: 'Make one span of the two.' });
    }
    if (latest === undefined || span.to > latest.to) latest = span;
  }
  return faults;
}

function dateFaults(path: string, holidays: readonly [place: string, holiday: unknown][]): FlowFault[] {
  const firstPlace = createFirstPlaces();
  return holidays.flatMap(([place, holiday]): FlowFault[] => {
    const date = isObject(holiday) ? holiday['date'] : undefined;
    if (typeof date !== 'string' || !/^\d{4}-\d{2}-\d{2}$/.test(date)) return [];
    const datePath = `${path}${place}/date`;
    if (!isDate(date)) {
      return [{ path: datePath, message: 'is no day of the calendar', mend: 'Give a date that there is.' }];
    }
    const first = firstPlace(date, datePath);
    if (first === null) return [];
    return [{ path: datePath, message: 'is also the date at', at: first, mend: 'Give each date once.' }];
  });
}

function isDate(date: string): boolean {
  const ms = Date.parse(`${date}T00:00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(date);
}

const isTime = (value: unknown): value is string => typeof value === 'string' && /^\d{2}:\d{2}$/.test(value);

/** Since midnight on the wall clock. */
function minutesOf(time: string): number {
  return Number(time.slice(0, 2)) * 60 + Number(time.slice(3, 5));
}

function localTimeAt(timeZone: string, nowMs: number): LocalTime | null {
  const clock = clockOf(timeZone);
  if (clock === null || !(Math.abs(nowMs) <= 100_000_000 * DAY_MS)) return null;
  const parts: Partial<Record<Intl.DateTimeFormatPartTypes, string>> = {};
  for (const { type, value } of clock.formatToParts(nowMs)) parts[type] = value;
  const { year = '', month = '', day = '', hour = '', minute = '' } = parts;
  const weekday = DAYS.find((name) => name === parts.weekday?.toLowerCase());
  if (weekday === undefined) return null;
  return {
    date: `${year.padStart(4, '0')}-${month}-${day}`,
    day: weekday,
    minutes: Number(hour) * 60 + Number(minute),
  };
}

/** Making a clock costs a hundred times what reading it does. There are some hundred zones; spellings with other capitals count as well. */
function clockOf(timeZone: string): Intl.DateTimeFormat | null {
  const known = clocks.get(timeZone);
  if (known !== undefined) return known;
  // Offsets such as +01:00 are taken by some versions of the engine only.
  if (!/^[A-Za-z]/.test(timeZone)) return null;
  try {
    const clock = new Intl.DateTimeFormat('en-US-u-ca-gregory-nu-latn', {
      timeZone,
      hourCycle: 'h23',
      weekday: 'long',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
    });
    if (clocks.size >= MAX_CLOCKS) clocks.clear();
    clocks.set(timeZone, clock);
    return clock;
  } catch {
    return null;
  }
}

const MAX_CLOCKS = 200;
const clocks = new Map<string, Intl.DateTimeFormat>();
