/* What the demo workspace holds: enough to see every step of a conversation, in several languages. */

export const demoWorkspaceName = 'Demo';

export const demoChannels = [
  { key: 'web', name: 'Website chat' },
  { key: 'email', name: 'E-mail' },
];

export const demoTeams = [
  { name: 'Support', strategy: 'round_robin' },
  { name: 'Billing', strategy: 'least_loaded' },
] as const;

/** All of them also belong to the workspace's default team, which takes what no branch of the flow claims. */
export const demoAgents = [
  { name: 'Ana Costa', capacity: 5, teams: ['Support'], skills: { english: 3, portuguese: 5, spanish: 4 } },
  { name: 'Ben Okafor', capacity: 5, teams: ['Support'], skills: { english: 5, french: 4 } },
  { name: 'Clara Weiss', capacity: 5, teams: ['Billing'], skills: { english: 4, german: 5 } },
  {
    name: 'Dmytro Bondar',
    capacity: 5,
    teams: ['Support', 'Billing'],
    skills: { english: 4, ukrainian: 5, polish: 3 },
  },
];

export const demoFlowName = 'Welcome';

export function createDemoFlow(teamIds: { support: string; billing: string; otherwise: string }) {
  return {
    name: demoFlowName,
    description:
      'Tells billing from support by the words of the first messages; everything else goes to the default team.',
    document: {
      trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact'" },
      enrichment: [
        {
          kind: 'keywords',
          field: 'purpose',
          rules: [
            {
              value: 'billing',
              keywords: [
                ...['invoice', 'refund', 'payment', 'charged', 'billing'],
                ...['rechnung', 'erstattung', 'zahlung'],
                ...['facture', 'remboursement', 'paiement'],
                ...['factura', 'reembolso', 'pago'],
                ...['fatura', 'pagamento', 'fattura', 'rimborso'],
                ...['faktura', 'рахунок', 'оплата'],
              ],
            },
            {
              value: 'support',
              keywords: [
                ...['help', 'broken', 'error', 'password', 'login', 'support'],
                ...['hilfe', 'kaputt', 'fehler', 'passwort'],
                ...['aide', 'panne', 'erreur', 'mot de passe'],
                ...['ayuda', 'roto', 'contraseña'],
                ...['ajuda', 'erro', 'senha', 'aiuto', 'errore'],
                ...['pomoc', 'błąd', 'допомога', 'помилка'],
              ],
            },
          ],
          otherwise: 'general',
        },
      ],
      routing: {
        branches: [
          { name: 'Billing', when: "fields.purpose == 'billing'", teamId: teamIds.billing, priority: 10 },
          { name: 'Support', when: "fields.purpose == 'support'", teamId: teamIds.support, priority: 5 },
        ],
        otherwise: { teamId: teamIds.otherwise, priority: 0 },
      },
    },
  };
}
