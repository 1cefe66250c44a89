/** The shape of the business hours that a flow may hold. */
import { Type, type Static } from 'typebox';
import { TEXT_FORMS } from './text-forms.ts';

export const MAX_HOLIDAYS = 366;
/** Of one day. */
export const MAX_SPANS = 10;

const TimeOfDay = Type.String({ ...TEXT_FORMS.timeOfDay, description: 'HH:MM, or 24:00 as an end' });
const Spans = Type.Optional(
  Type.Array(Type.Object({ from: TimeOfDay, to: TimeOfDay }, { additionalProperties: false }), { maxItems: MAX_SPANS }),
);

export const BusinessHours = Type.Object(
  {
    timeZone: Type.String({ maxLength: 64, description: 'IANA name, such as Europe/Berlin' }),
    weekly: Type.Object(
      {
        monday: Spans,
        tuesday: Spans,
        wednesday: Spans,
        thursday: Spans,
        friday: Spans,
        saturday: Spans,
        sunday: Spans,
      },
      { additionalProperties: false, description: 'A day left out is closed' },
    ),
    holidays: Type.Optional(
      Type.Array(
        Type.Object(
          { date: Type.String({ ...TEXT_FORMS.date }), open: Spans },
          { additionalProperties: false, description: 'Closed all day, or open in these spans' },
        ),
        { maxItems: MAX_HOLIDAYS },
      ),
    ),
  },
  { additionalProperties: false },
);

export const Hours = Type.Record(Type.String({ ...TEXT_FORMS.fieldName }), BusinessHours, {
  additionalProperties: false,
  maxProperties: 10,
  names: TEXT_FORMS.fieldName,
  description: 'Business hours by name; conditions ask `hours.<name>.open`',
});

export type BusinessHours = Static<typeof BusinessHours>;
