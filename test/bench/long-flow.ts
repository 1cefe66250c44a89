/** Five steps that ask nobody, and ten branches of which the last decides. */
export const longFlow = (teamId: string): object => ({
  hours: {
    office: { timeZone: 'Europe/Berlin', weekly: { monday: [{ from: '09:00', to: '17:00' }] } },
  },
  enrichment: [
    { kind: 'set', field: 'origin', value: 'web' },
    {
      kind: 'keywords',
      field: 'purpose',
      rules: [
        { value: 'billing', keywords: ['invoice', 'bill', 'payment', 'rechnung'] },
        { value: 'delivery', keywords: ['parcel', 'delivery', 'shipping', 'paket'] },
      ],
      otherwise: 'general',
    },
    { kind: 'language', field: 'language', otherwise: 'en' },
    { kind: 'contact', fields: { earlier: 'conversationCount', who: 'name' } },
    { kind: 'set', field: 'urgent', value: true, when: "message.text.contains('urgent')" },
  ],
  routing: {
    branches: Array.from({ length: 10 }, (_, place) => ({
      name: `Branch ${place + 1}`,
      when:
        place === 9
          ? "fields.origin == 'web'"
          : `fields.purpose == 'no. ${place}' || (hours.office.open && fields.earlier > 1000 && message.text.contains('word ${place}'))`,
      teamId,
      priority: 1,
    })),
    otherwise: { teamId },
  },
});
