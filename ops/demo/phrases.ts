/** What the demo's contacts write and are answered. The first messages hold the words by which the demo workspace's flow routes. */
export interface Phrases {
  readonly language: string;
  readonly names: readonly string[];
  readonly openings: readonly string[];
  /** Written right after, in a burst. */
  readonly additions: readonly string[];
  readonly reply: string;
  readonly thanks: string;
  readonly again: string;
}

export const phrases: readonly Phrases[] = [
  {
    language: 'English',
    names: ['Olivia', 'Noah', 'Amelia'],
    openings: ['I need a refund for my last invoice', 'Login shows an error', 'What are your opening hours?'],
    additions: ['It is order 4711', 'Since this morning', 'Hello?', 'Anybody there?', 'It is urgent'],
    reply: 'Thank you, I am looking into it.',
    thanks: 'Great, thank you!',
    again: 'One more question about that',
  },
  {
    language: 'German',
    names: ['Jürgen', 'Käthe', 'Florian'],
    openings: [
      'Meine Rechnung stimmt nicht',
      'Ich habe mein Passwort vergessen, Hilfe!',
      'Liefern Sie auch nach Österreich?',
    ],
    additions: ['Kundennummer 1234', 'Seit gestern', 'Hallo?', 'Es ist dringend'],
    reply: 'Danke, ich sehe es mir an.',
    thanks: 'Wunderbar, danke schön!',
    again: 'Da fällt mir noch etwas ein',
  },
  {
    language: 'French',
    names: ['Zoé', 'Théo', 'Hélène'],
    openings: [
      "J'attends un remboursement",
      "Le site affiche une erreur, besoin d'aide",
      'Êtes-vous ouverts dimanche ?',
    ],
    additions: ['Commande 98', "C'est urgent", 'Allô ?'],
    reply: 'Merci, je regarde cela.',
    thanks: 'Parfait, merci !',
    again: 'Encore une question',
  },
  {
    language: 'Spanish',
    names: ['Lucía', 'Íñigo', 'Sofía'],
    openings: ['No he recibido la factura', 'Olvidé mi contraseña, ¡ayuda!', '¿Hacen envíos a México?'],
    additions: ['Pedido 305', '¿Hola?', 'Es urgente'],
    reply: 'Gracias, lo estoy mirando.',
    thanks: '¡Muchas gracias!',
    again: 'Una cosa más',
  },
  {
    language: 'Portuguese',
    names: ['João', 'Inês', 'Tomás'],
    openings: ['O pagamento foi cobrado duas vezes', 'Esqueci a senha, preciso de ajuda', 'Qual é o prazo de entrega?'],
    additions: ['Pedido 77', 'Olá?'],
    reply: 'Obrigada, vou verificar.',
    thanks: 'Ótimo, obrigado!',
    again: 'Só mais uma coisa',
  },
  {
    language: 'Polish',
    names: ['Żaneta', 'Łukasz', 'Agnieszka'],
    openings: ['Gdzie jest moja faktura?', 'Mam błąd przy logowaniu', 'Czy mają Państwo sklep w Gdańsku?'],
    additions: ['Zamówienie 12', 'Halo?', 'To pilne'],
    reply: 'Dziękuję, już sprawdzam.',
    thanks: 'Świetnie, dziękuję!',
    again: 'Jeszcze jedno pytanie',
  },
  {
    language: 'Ukrainian',
    names: ['Оксана', 'Тарас', 'Юлія'],
    openings: ['Де мій рахунок?', 'Потрібна допомога, помилка на сайті', 'Чи працюєте ви в неділю?'],
    additions: ['Замовлення 9', 'Агов?'],
    reply: 'Дякую, зараз перевірю.',
    thanks: 'Чудово, дякую!',
    again: 'Ще одне питання',
  },
  {
    language: 'Japanese',
    names: ['さくら', '健太', '由美'],
    openings: ['営業時間を教えてください', '注文をキャンセルしたいです', 'サイズを交換できますか'],
    additions: ['注文番号は42です', 'もしもし？'],
    reply: 'ありがとうございます。確認いたします。',
    thanks: '助かりました！',
    again: 'もう一つ質問があります',
  },
];

export const categories = ['invoice', 'refund', 'technical', 'delivery', 'question'] as const;
