import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hoursFaults, isOpen } from '../../routing/business-hours.ts';
import type { BusinessHours } from '../../routing/hours-schema.ts';

const at = (iso: string) => Date.parse(iso);

function hoursIn(
  timeZone: string,
  weekly: BusinessHours['weekly'],
  holidays?: BusinessHours['holidays'],
): BusinessHours {
  return { timeZone, weekly, ...(holidays === undefined ? {} : { holidays }) };
}

const officeDay = [{ from: '09:00', to: '17:00' }];
const everyDay = (spans: { from: string; to: string }[]): BusinessHours['weekly'] => ({
  ...{ monday: spans, tuesday: spans, wednesday: spans, thursday: spans },
  ...{ friday: spans, saturday: spans, sunday: spans },
});

describe('a business is open in its spans', () => {
  const london = hoursIn('Europe/London', {
    monday: [
      { from: '09:00', to: '12:00' },
      { from: '13:00', to: '17:30' },
    ],
    friday: [{ from: '22:00', to: '24:00' }],
    saturday: [{ from: '00:00', to: '02:00' }],
  });

  // 2026-01-05 is a Monday.
  it.each([
    ['2026-01-05T08:59:59.999Z', false],
    ['2026-01-05T09:00:00Z', true],
    ['2026-01-05T11:59:59.999Z', true],
    ['2026-01-05T12:00:00Z', false],
    ['2026-01-05T13:00:00Z', true],
    ['2026-01-05T17:29:59Z', true],
    ['2026-01-05T17:30:00Z', false],
    ['2026-01-06T10:00:00Z', false],
    ['2026-01-09T21:59:59Z', false],
    ['2026-01-09T22:00:00Z', true],
    ['2026-01-09T23:59:59.999Z', true],
    ['2026-01-10T00:00:00Z', true],
    ['2026-01-10T01:59:59Z', true],
    ['2026-01-10T02:00:00Z', false],
    // In summer an hour earlier by UTC.
    ['2026-07-06T08:00:00Z', true],
    ['2026-07-06T07:59:59Z', false],
    ['2026-07-06T16:30:00Z', false],
  ])('at %s: %s', (iso, open) => {
    expect(isOpen(london, at(iso))).toBe(open);
  });

  it('all day from 00:00 to 24:00, and never without spans', () => {
    const days = fc.integer({ min: 0, max: 4_102_444_800_000 });
    fc.assert(
      fc.property(days, (nowMs) => {
        expect(isOpen(hoursIn('Europe/Berlin', everyDay([{ from: '00:00', to: '24:00' }])), nowMs)).toBe(true);
        expect(isOpen(hoursIn('Europe/Berlin', {}), nowMs)).toBe(false);
      }),
    );
  });
});

describe('the clock on the wall counts', () => {
  const night = everyDay([{ from: '02:00', to: '03:00' }]);
  const office = everyDay(officeDay);

  it.each<[string, string, BusinessHours['weekly'], string, boolean]>([
    // Clocks go from 02:00 to 03:00 at 01:00 UTC: the hour from two to three is left out.
    ['Berlin, spring', 'Europe/Berlin', night, '2026-03-29T00:59:59Z', false],
    ['Berlin, spring', 'Europe/Berlin', night, '2026-03-29T01:00:00Z', false],
    ['Berlin, the night before', 'Europe/Berlin', night, '2026-03-28T01:30:00Z', true],
    ['Berlin, spring', 'Europe/Berlin', office, '2026-03-28T08:00:00Z', true],
    ['Berlin, spring', 'Europe/Berlin', office, '2026-03-29T07:00:00Z', true],
    ['Berlin, spring', 'Europe/Berlin', office, '2026-03-29T06:59:59Z', false],
    // Clocks go from 03:00 to 02:00 at 01:00 UTC: that hour comes twice.
    ['Berlin, autumn', 'Europe/Berlin', night, '2026-10-24T23:59:59Z', false],
    ['Berlin, autumn', 'Europe/Berlin', night, '2026-10-25T00:00:00Z', true],
    ['Berlin, autumn', 'Europe/Berlin', night, '2026-10-25T01:59:59Z', true],
    ['Berlin, autumn', 'Europe/Berlin', night, '2026-10-25T02:00:00Z', false],
    ['Berlin, autumn', 'Europe/Berlin', office, '2026-10-25T08:00:00Z', true],
    ['Berlin, autumn', 'Europe/Berlin', office, '2026-10-25T07:59:59Z', false],
    ['New York, spring', 'America/New_York', night, '2026-03-08T07:30:00Z', false],
    ['New York, spring', 'America/New_York', office, '2026-03-08T13:00:00Z', true],
    ['New York, spring', 'America/New_York', office, '2026-03-07T13:59:59Z', false],
    ['New York, autumn', 'America/New_York', night, '2026-11-01T06:30:00Z', false],
    ['New York, autumn', 'America/New_York', night, '2026-11-01T07:30:00Z', true],
    ['New York, autumn', 'America/New_York', office, '2026-11-01T14:00:00Z', true],
    ['Kolkata, half an hour off', 'Asia/Kolkata', office, '2026-01-05T03:29:59Z', false],
    ['Kolkata, half an hour off', 'Asia/Kolkata', office, '2026-01-05T03:30:00Z', true],
    ['Kolkata, half an hour off', 'Asia/Kolkata', office, '2026-07-06T11:29:59Z', true],
    ['Kolkata, half an hour off', 'Asia/Kolkata', office, '2026-07-06T11:30:00Z', false],
  ])('in %s (%s) at %s: %s', (_, timeZone, weekly, iso, open) => {
    expect(isOpen(hoursIn(timeZone, weekly), at(iso))).toBe(open);
  });

  it('and the day of the week there', () => {
    const sunday = hoursIn('Pacific/Auckland', { monday: officeDay });
    expect(isOpen(sunday, at('2026-01-04T20:30:00Z'))).toBe(true);
    expect(isOpen(sunday, at('2026-01-05T20:30:00Z'))).toBe(false);
  });
});

describe('a holiday', () => {
  const hours = hoursIn('America/New_York', everyDay(officeDay), [
    { date: '2026-12-25' },
    { date: '2026-12-24', open: [{ from: '08:00', to: '12:00' }] },
    { date: '2026-12-26', open: [] },
  ]);

  it.each([
    ['2026-12-25T15:00:00Z', false],
    ['2026-12-26T15:00:00Z', false],
    ['2026-12-24T13:30:00Z', true],
    ['2026-12-24T18:00:00Z', false],
    ['2026-12-23T15:00:00Z', true],
    ['2025-12-25T15:00:00Z', true],
    ['2026-12-27T15:00:00Z', true],
  ])('replaces the day of the week: %s %s', (iso, open) => {
    expect(isOpen(hours, at(iso))).toBe(open);
  });

  it('goes by the date where the business is', () => {
    const allDay = hoursIn('Asia/Kolkata', everyDay([{ from: '00:00', to: '24:00' }]), [{ date: '2026-08-15' }]);
    expect(isOpen(allDay, at('2026-08-14T18:29:59Z'))).toBe(true);
    expect(isOpen(allDay, at('2026-08-14T18:30:00Z'))).toBe(false);
    expect(isOpen(allDay, at('2026-08-15T18:29:59Z'))).toBe(false);
    expect(isOpen(allDay, at('2026-08-15T18:30:00Z'))).toBe(true);
  });
});

it('a zone that is not known, or a time that is none, is closed', () => {
  const always = everyDay([{ from: '00:00', to: '24:00' }]);
  expect(isOpen(hoursIn('Mars/Olympus', always), 0)).toBe(false);
  expect(isOpen(hoursIn('Europe/Berlin', always), Number.NaN)).toBe(false);
});

it('agrees with a walk through the whole year, minute by minute in steps of 17', () => {
  const hours = hoursIn('Europe/Berlin', { monday: officeDay, sunday: [{ from: '23:00', to: '24:00' }] });
  const clock = new Intl.DateTimeFormat('sv-SE', {
    timeZone: 'Europe/Berlin',
    dateStyle: 'short',
    timeStyle: 'medium',
  });
  for (let nowMs = at('2026-01-01T00:00:00Z'); nowMs < at('2027-01-01T00:00:00Z'); nowMs += 17 * 60_000) {
    const [date = '', time = ''] = clock.format(nowMs).split(' ');
    const day = new Date(`${date}T00:00:00Z`).getUTCDay();
    const open = day === 1 ? time >= '09:00:00' && time < '17:00:00' : day === 0 && time >= '23:00:00';
    if (isOpen(hours, nowMs) !== open) expect.fail(`${date} ${time}`);
  }
});

describe('faults of business hours', () => {
  const faultsOf = (hours: unknown) =>
    hoursFaults('/hours/office', hours).map(({ path, message, at: place }) => [
      path,
      message,
      ...(place === undefined ? [] : [place]),
    ]);

  it('none in sound ones', () => {
    const weekly = {
      monday: [
        { from: '13:00', to: '24:00' },
        { from: '00:00', to: '13:00' },
      ],
    };
    const holidays = [{ date: '2028-02-29' }, { date: '2026-12-25', open: officeDay }];
    expect(faultsOf({ timeZone: 'Asia/Kolkata', weekly, holidays })).toEqual([]);
    expect(faultsOf({ timeZone: 'UTC', weekly: {} })).toEqual([]);
  });

  it.each(['Europe/Berln', '', '+01:00', 'CEST2', 'Europe/Berlin\0'])('an unknown time zone: %j', (timeZone) => {
    expect(faultsOf({ timeZone, weekly: {} })).toEqual([['/hours/office/timeZone', 'is no known time zone']]);
  });

  it('spans that end before they begin, or overlap', () => {
    const monday = [
      { from: '17:00', to: '09:00' },
      { from: '09:00', to: '09:00' },
      { from: '10:00', to: '14:00' },
      { from: '13:59', to: '15:00' },
      { from: '11:00', to: '12:00' },
    ];
    expect(faultsOf({ timeZone: 'UTC', weekly: { monday } })).toEqual([
      ['/hours/office/weekly/monday/0', 'ends before it begins'],
      ['/hours/office/weekly/monday/1', 'ends before it begins'],
      ['/hours/office/weekly/monday/4', 'overlaps with', '/hours/office/weekly/monday/2'],
      ['/hours/office/weekly/monday/3', 'overlaps with', '/hours/office/weekly/monday/2'],
    ]);
  });

  it('dates that are none, or given twice, and the spans of a holiday', () => {
    const holidays = [
      { date: '2026-02-29' },
      { date: '2026-13-01' },
      { date: '2026-12-25', open: [{ from: '12:00', to: '11:00' }] },
      { date: '2026-12-25' },
    ];
    expect(faultsOf({ timeZone: 'UTC', weekly: {}, holidays })).toEqual([
      ['/hours/office/holidays/2/open/0', 'ends before it begins'],
      ['/hours/office/holidays/0/date', 'is no day of the calendar'],
      ['/hours/office/holidays/1/date', 'is no day of the calendar'],
      ['/hours/office/holidays/3/date', 'is also the date at', '/hours/office/holidays/2/date'],
    ]);
  });

  it('nothing is thrown whatever is given', () => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), (one, other) => {
        hoursFaults('', { timeZone: one, weekly: { monday: other }, holidays: [one, { date: other, open: [one] }] });
        hoursFaults('', { timeZone: 'UTC', weekly: one, holidays: other });
        hoursFaults('', one);
      }),
    );
  });
});
